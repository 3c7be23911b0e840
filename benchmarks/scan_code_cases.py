"""Positive and negative cases of each code rule: (rule, kind, text). Text is a file's content."""

# ruff: noqa: E501 - a case is a line

from __future__ import annotations

QC = "from qiskit import QuantumCircuit\n"
AER = QC + "from qiskit_aer import AerSimulator\n"
RT = QC + "from qiskit_ibm_runtime import QiskitRuntimeService, SamplerV2\n"
BELL = "qc = QuantumCircuit(2)\nqc.h(0)\nqc.cx(0, 1)\n"

#: rule -> (positives, negatives)
PYTHON: dict[str, tuple[list[str], list[str]]] = {
    "unsafe-load": (
        [
            "import pickle\nmodel = pickle.load(open('m', 'rb'))",
            "from joblib import load\nload('m')",
            "import torch\nw = torch.load('w.pt')",
            "import torch as t\nw = t.load('w.pt', weights_only=False)",
            "import numpy as np\na = np.load('a.npy', allow_pickle=True)",
            "import yaml\nyaml.load(open('c'))",
            "from qiskit import qpy\ncircuits = qpy.load(open('c.qpy', 'rb'))",
            "import pickle\nf = getattr(pickle, 'lo' + 'ads')\nf(data)",
            "import pandas as pd\npd.read_pickle('x')",
            "import pickle\ns = pickle.dumps(1)\ns += tail\npickle.loads(s)",
            "import pickle\ndef f(s):\n    if x:\n        s = pickle.dumps(1)\n    return pickle.loads(s)",
            "import pickle\ndef f():\n    global s\n    s = pickle.dumps(1)\n    wait()\n    return pickle.loads(s)",
            "import pickle\ndef f(parts):\n    s = pickle.dumps(1)\n    for s in parts:\n        pickle.loads(s)",
            "import _pickle\nclass pickle:\n    dumps = read\n_pickle.loads(pickle.dumps(1))",
            "import importlib\nimportlib.import_module('pickle').loads(x)",
            "from pickle import *\nloads(x)",
            "import pickle\nclass U(pickle.Unpickler):\n    pass\nU(f).load()",
            "import pickle\nvars(pickle)['loads'](x)",
            "import pickle\npickle.__dict__['loads'](x)",
            "import sys\nsys.modules['pickle'].loads(x)",
            "import builtins\nbuiltins.__import__('pickle').loads(x)",
            "__import__('pickle').loads(x)",
            "import pickle\nimport operator\noperator.attrgetter('loads')(pickle)(x)",
            "import pickle\ng = getattr\ng(pickle, 'loads')(x)",
            "import pickle\ng = getattr\nf = g(pickle, 'loads')\nf(x)",
            "import numpy as np\nnp.load(x, None, True)",
            "import numpy as np\nkw = {'allow_pickle': True}\nnp.load(x, **kw)",
            "import numpy as np\nnp.load(x, **dict(allow_pickle=True))",
            "import numpy as np\ndef f(x, **kw):\n    return np.load(x, **kw)",
            "import pickle\nlist(map(pickle.loads, xs))",
            "from pickle import loads\nlist(map(loads, xs))",
            "import pickle\nimport functools\nf = functools.partial(pickle.loads)\nf(x)",
            "import torch\nclass A:\n    def __init__(self):\n        self.l = torch.load",
            "import pickle\npickle._loads(x)",
            "import pandas as pd\npd.read_hdf('x')",
            "import pickle\np = pickle\np.loads(x)",
            "import pickle\nf = pickle.loads\nmap(f, xs)",
            "import pickle\n{'a': pickle.loads}['a'](x)",
            "import pickle\ndef f():\n    return pickle.loads",
            "from pickle import *\nmap(loads, xs)",
            "from numpy import *\nfrom pickle import *\nlist(map(loads, xs))",
            "import numpy as np\nfrom functools import partial\nf = partial(np.load, allow_pickle=True)",
            "import pickle\npickle.__getattribute__('loads')(x)",
            "import pickle\nmap(vars(pickle)['loads'], xs)",
            "import importlib\nm = importlib.import_module('pickle')\nm.loads(x)",
            "import importlib\nimportlib.import_module(name='pickle').loads(x)",
            "from importlib import import_module as im\nim('joblib').load(x)",
        ],
        [
            "import json\njson.load(open('m'))",
            "import torch\nw = torch.load('w.pt', weights_only=True)",
            "import numpy as np\na = np.load('a.npy')\nb = np.load('a', allow_pickle=False)",
            "import yaml\nyaml.load(open('c'), Loader=yaml.SafeLoader)\nyaml.safe_load('a')",
            "import pickle\npickle.dump(model, handle)",
            "import pickle\ncopy = pickle.loads(pickle.dumps(model))",
            "from pickle import dumps, loads\ndef test_x():\n    s = dumps(model)\n    assert loads(s) == model",
            "class Store:\n    def load(self):\n        return 1\nStore().load()",
            "import importlib\nimportlib.import_module('json').loads(x)",
            "from json import *\nloads(x)",
            "from pickle import *\ndef loads(x): return 1\nloads(x)",
            "import pickle\nclass U(pickle.Unpickler):\n    def find_class(self, m, n):\n        if (m, n) not in OK:\n            raise ValueError\n        return super().find_class(m, n)",
            "import pickle\nvars(pickle)['dumps'](x)",
            "import sys\nsys.modules['json'].loads(x)",
            "import operator, json\noperator.attrgetter('loads')(json)(x)",
            "import numpy as np\nnp.load(x, None, False)\nnp.load(x, None)",
            "import numpy as np\nkw = {'mmap_mode': 'r'}\nnp.load(x, **kw)",
            "import torch\nkw = {'weights_only': True}\ntorch.load(x, **kw)",
            "import json\nlist(map(json.loads, xs))",
            "import pickle\nlist(map(pickle.dumps, xs))",
            "import torch, functools\nf = functools.partial(torch.load, weights_only=True)",
            "import pickle\nassert isinstance(u, pickle.Unpickler)",
            "import pickle\nif f is pickle.loads: pass",
            "import pickle\ndef f(u: pickle.Unpickler): pass",
            "import pandas as pd\npd.read_csv('x')",
            "import numpy as np\nlist(map(np.load, xs))",
        ],
    ),
    "dynamic-attribute": (
        [
            "import io\ngetattr(io, 'op' + 'en')('x')",
            "import os\nname = ''.join(['sys', 'tem'])\ngetattr(os, name)('id')",
            "import subprocess\ngetattr(subprocess, user)(['id'])",
            "eval(text)",
            "__import__('os').system('id')",
            "import importlib\nimportlib.import_module('o' + 's')",
            "import os\ngetattr(os, 'metsys'[::-1])('id')",
            "import builtins\ngetattr(builtins, chr(101) + 'val')('1')",
            "import importlib\nname = 'os'\nimportlib.import_module(name).system('id')",
        ],
        [
            "getattr(thing, 'name', None)",
            "import os\ngetattr(os, 'O_NOFOLLOW', 0)",
            "import importlib\nimportlib.import_module('json')",
            "import importlib\nname = 'my_package.results'\nimportlib.import_module(name)",
            "getattr(self, 'on_' + event)()",
            "eval('1 + 1')",
        ],
    ),
    "unseeded-random": (
        [
            "import numpy as np\nrng = np.random.default_rng()",
            "import numpy as np\nx = np.random.rand(3)",
            "import random\nimport torch\nrandom.shuffle(data)",
            "import random\nimport qiskit\nrng = random.Random()",
            "from random import randint\nimport cirq\nn = randint(1, 6)",
            "import torch\nw = torch.randn(3)",
            "from qiskit import transpile\nt = transpile(qc, backend)",
            "import numpy as np\nrng = np.random.default_rng(None)",
        ],
        [
            "import numpy as np\nrng = np.random.default_rng(7)",
            "import numpy as np\nnp.random.seed(1)\nx = np.random.rand(3)",
            "import torch\ntorch.manual_seed(0)\nw = torch.randn(3)",
            "from qiskit import transpile\nt = transpile(qc, backend, seed_transpiler=1)",
            "import random\nrng = random.Random(4)\nrng.shuffle(data)",
            "import random\nrandom.shuffle(players)\nrng = random.Random()",
            "import numpy as np\nrandom = np.random.default_rng(1)\nrandom.choice(3)",
            "import random\nimport asyncio\nwait = random.uniform(1, 2)",
            "import numpy as np\nrng = np.random.default_rng(seed)",
        ],
    ),
    "unguarded-submit": (
        [
            RT + BELL + "qc.measure_all()\nsampler = SamplerV2(mode=backend)\nsampler.run([qc])",
            AER + BELL + "qc.measure_all()\nAerSimulator().run(qc)",
            RT + "service = QiskitRuntimeService()\nbackend = service.backend('b')\nbackend.run(qc)",
            RT + "b = service.least_busy()\nb.run(qc)",
            "from braket.aws import AwsDevice\nd = AwsDevice('arn')\nd.run(circuit, shots=1000)",
        ],
        [
            "import interlock\n" + RT + "s = interlock.guard(SamplerV2(mode=b), policy='p.yaml')\ns.run([qc])",
            "from interlock import guard\n" + RT + "s = SamplerV2(mode=b)\ns = guard(s)\ns.run([qc])",
            "import subprocess\nsubprocess.run(['ls'])",
            "from qiskit.transpiler import PassManager\npm = PassManager()\npm.run(qc)",
        ],
    ),
    "missing-measure": (
        [
            AER + BELL + "AerSimulator().run(qc)",
            RT + BELL + "sampler = SamplerV2(mode=b)\njob = sampler.run([qc])",
            AER + "def f():\n    c = QuantumCircuit(1)\n    c.h(0)\n    return AerSimulator().run(c)",
        ],
        [
            AER + BELL + "qc.measure_all()\nAerSimulator().run(qc)",
            AER + "qc = QuantumCircuit(1, 1)\nqc.h(0)\nqc.measure(0, 0)\nAerSimulator().run(qc)",
            QC + "from qiskit.primitives import StatevectorEstimator\n" + BELL
            + "e = StatevectorEstimator()\ne.run([(qc, op)])",
            AER + BELL + "add_measurements(qc)\nAerSimulator().run(qc)",
            QC + BELL + "print(qc)",
        ],
    ),
    "mid-circuit": (
        [
            QC + "qc = QuantumCircuit(1, 1)\nqc.h(0)\nqc.measure(0, 0)\nqc.x(0)",
            QC + "qc = QuantumCircuit(2, 1)\nqc.measure(0, 0)\nqc.measure(1, 0)",
        ],
        [
            QC + "qc = QuantumCircuit(1, 1)\nqc.h(0)\nqc.measure(0, 0)",
            QC + "qc = QuantumCircuit(1, 1)\nqc.measure(0, 0)\nqc.reset(0)\nqc.x(0)",
            QC + "qc = QuantumCircuit(2, 2)\nqc.measure(0, 0)\nwith qc.if_test((c, 1)):\n    qc.x(0)",
            QC + "qc = QuantumCircuit(2, 2)\nqc.measure(0, 0)\nqc.measure(1, 1)\nqc.x(2)",
        ],
    ),
    "token-in-code": (
        [
            ("from qiskit_ibm_runtime import QiskitRuntimeService\n"
            "s = QiskitRuntimeService(token='q8Zr2LmT0vXc' + '4BnYq8Zr2LmT0vXc')"),
            "from qiskit_ionq import IonQProvider\nkey = 'abcd1234efgh5678'\np = IonQProvider(key)",
            "import os\ns = IQMProvider('https://x', token='k3y' + 'M4t3r1al99')",
            "import qnexus as qnx\nqnx.auth.login_with_credentials('kim@a.org', 'Zr8Lm2' + 'T0vXc4')",
            "from qnexus.client import auth\nauth.login_no_interaction(user='kim', pwd='Zr8Lm2' + 'T0vXc4')",
        ],
        [
            "import os\ns = QiskitRuntimeService(token=os.environ['TOKEN'])",
            "s = QiskitRuntimeService(token='<your-token>')",
            "s = QiskitRuntimeService()",
            "import qnexus as qnx\nqnx.auth.login_with_credentials()",
            "import qnexus as qnx\nqnx.auth.login_with_credentials(user, os.environ['PASS'])",
            "device = qml.device('default.qubit', wires=2)",
        ],
    ),
    "removed-qiskit-api": (
        [
            "from qiskit import execute",
            "from qiskit import Aer, QuantumCircuit",
            "import qiskit.aqua",
            "from qiskit.opflow import X",
            QC + "qc = QuantumCircuit(2)\nqc.cnot(0, 1)",
            QC + "qc = QuantumCircuit(1)\nqc.u3(1, 2, 3, 0)",
            "import qiskit\nqiskit.execute(qc, backend)",
            QC + "qc = QuantumCircuit(1, 1)\nqc.x(0).c_if(c, 1)",
            QC + "qc = QuantumCircuit(1)\nbound = qc.bind_parameters({a: 1})",
            "from qiskit.providers.aer import AerSimulator",
        ],
        [
            "from qiskit import QuantumCircuit, transpile\nfrom qiskit_aer import AerSimulator",
            QC + "qc = QuantumCircuit(2)\nqc.cx(0, 1)\nqc.assign_parameters({a: 1})",
            "from sqlalchemy import execute",
            "from qiskit.primitives import StatevectorSampler",
            "import cirq\ncirq.CNOT(a, b)",
        ],
    ),
    "simulator-as-hardware": (
        [
            AER + "c = AerSimulator().run(qc)\nprint('Results on real quantum hardware:', c)",
            AER + "import matplotlib.pyplot as plt\ns = AerSimulator()\nplt.title('ibm_brisbane counts')",
            AER + "hardware_counts = AerSimulator().run(qc).result().get_counts()",
            AER + "import matplotlib.pyplot as plt\nplt.bar(*AerSimulator().run(qc))\nplt.title('Bell state, quantum hardware')",
            AER + "c = AerSimulator().run(qc)\nax.set_title(f'QPU counts of {name}')",
            AER + "c = AerSimulator().run(qc)\nplot_histogram(c, title='Hardware', legend=['hardware'])",
            AER + "c = AerSimulator().run(qc)\nplt.plot(c, label='hardware')",
            AER + "c = AerSimulator().run(qc)\nprint(f'hardware fidelity: {c}')",
            AER + "c = AerSimulator().run(qc)\nprint('Fidelity on our quantum computer: %f' % c)",
            AER + "c = AerSimulator().run(qc)\nLABEL = 'IBM hardware'\nplt.ylabel(LABEL)",
            "import pennylane as qml\ndev = qml.device('default.qubit', wires=2)\nprint('QPU result:', f())",
            "import cirq\nr = cirq.Simulator().run(c)\nplt.suptitle('Counts from the quantum processor')",
            "from qiskit_ibm_runtime.fake_provider import FakeTorino\nb = FakeTorino()\nplt.legend(['theory', 'hardware'])",
        ],
        [
            AER + "print('Simulated, not real hardware', AerSimulator().run(qc))",
            RT + "s = QiskitRuntimeService()\nprint('Results on real hardware')",
            AER + "counts = AerSimulator().run(qc)\nprint('simulator counts', counts)",
            AER + "c = AerSimulator().run(qc)\nplt.title('Hardware-efficient ansatz')",
            AER + "c = AerSimulator().run(qc)\nplt.title('Hardware noise model, simulated')",
            AER + "c = AerSimulator().run(qc)\nprint('Switch to hardware when this works')",
            AER + "c = AerSimulator().run(qc)\nprint(f'No hardware was used: {c}')",
            AER + "c = AerSimulator().run(qc)\nd = json.load(open('ibm.json'))\nplt.plot(d, label='hardware')",
            "import cirq\nq = cirq.LineQubit(0)\nplt.title('hardware')",
            AER + "c = AerSimulator().run(qc)\nhelper('hardware')",
        ],
    ),
    "endian-slip": (
        [
            QC + "counts = job.result().get_counts()\nfor bits, n in counts.items():\n    if bits[0] == '1':\n        k += n",
            QC + "for key in job.result().get_counts().keys():\n    for i, b in enumerate(key):\n        f(i, b)",
            QC + "c = r.get_counts()\np = sum(n for b, n in c.items() if b[0] == '0')",
        ],
        [
            QC + "for bits, n in r.get_counts().items():\n    bits = bits[::-1]\n    ones += bits.count('1')",
            QC + "for bits, n in r.get_counts().items():\n    k += n * bits.count('1')",
            "for word, n in words.items():\n    if word[0] == 'a':\n        k += n",
            QC + "for bits, n in r.get_counts().items():\n    q = bits[::-1][0]",
        ],
    ),
    "few-shots": (
        [
            AER + "counts = AerSimulator().run(qc, shots=10).result().get_counts()",
            "import pennylane as qml\ndev = qml.device('default.qubit', wires=1, shots=20)\nqml.expval(o)",
            AER + "N = 50\ncounts = AerSimulator().run(qc, shots=N).result().get_counts()",
        ],
        [
            AER + "counts = AerSimulator().run(qc, shots=4096).result().get_counts()",
            AER + "AerSimulator().run(qc, shots=1)",
            AER + "def a():\n    assert AerSimulator().run(qc, shots=3).result()\ndef b():\n    x.mean()",
            "archer.run(shots=3)",
        ],
    ),
    "remote-code": (
        [
            "from transformers import AutoModel\nAutoModel.from_pretrained('a/b', trust_remote_code=True)",
            "import torch\nm = torch.hub.load('a/b', 'model')",
        ],
        [
            "from transformers import AutoModel\nAutoModel.from_pretrained('a/b')",
            "import torch\nm = torch.hub.load('.', 'model', source='local')",
        ],
    ),
}  # fmt: skip

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nbit[2] c;\n'
TWO = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[2];\n'
QASM: dict[str, tuple[list[str], list[str]]] = {
    "qasm-missing-measure": (
        [HEAD + "h q[0];\ncx q[0], q[1];\n", TWO + "h q[0];\n"],
        [HEAD + "h q[0];\nc = measure q;\n", TWO + "h q[0];\nmeasure q -> c;\n", HEAD],
    ),
    "qasm-mid-circuit": (
        [
            HEAD + "h q[0];\nc[0] = measure q[0];\nx q[0];\n",
            TWO + "measure q[0] -> c[0];\nh q[0];\n",
            HEAD + "c = measure q;\nx q[1];\n",
        ],
        [
            HEAD + "c[0] = measure q[0];\nreset q[0];\nx q[0];\n",
            HEAD + "c[0] = measure q[0];\nif (c[0] == 1) { x q[0]; }\n",
            TWO + "measure q[0] -> c[0];\nif (c == 1) x q[1];\n",
        ],
    ),
    "qasm-register": (
        [
            HEAD + "h q[2];\nc = measure q;\n",
            HEAD + "h r[0];\nc = measure q;\n",
            HEAD + "cx q[0], q[0];\nc = measure q;\n",
            TWO + "measure q[0] -> d[0];\n",
        ],
        [
            HEAD + "cx q[0], q[1];\nc = measure q;\n",
            HEAD + "gate g a, b { cx a, b; }\ng q[0], q[1];\nc = measure q;\n",
            HEAD + "rx(pi/2) q[0];\nctrl @ x q[0], q[1];\nc[1] = measure q[1];\n",
        ],
    ),
    "qasm-include": (
        [TWO.replace("qelib1.inc", "/etc/passwd"), HEAD.replace("stdgates.inc", "../mine.inc")],
        [TWO, HEAD],
    ),
    "qasm-version": (
        [HEAD.split("\n", 1)[1] + "c = measure q;\n", TWO + "for i in [0:1] { h q[i]; }\n"],
        [TWO, HEAD],
    ),
}
