from pathlib import Path

from click.testing import CliRunner

from interlock.cli.certs import command
from interlock.crypto import files


def test_the_first_certificate_makes_a_home_that_only_its_owner_enters(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    done = CliRunner().invoke(command, ["issue", "gateway", "--host", "a.b", "--home", str(home)])
    assert done.exit_code == 0, done.output
    files.check_private(home)
    shown = CliRunner().invoke(command, ["show", "--home", str(home)])
    assert "gateway-ml-dsa-65.pem" in shown.output
