// Keeps the page's live part up to date. Everything can be read without it.
"use strict";
const live = document.querySelector("[data-live]");
if (live) {
  let old = live.innerHTML;
  setInterval(async () => {
    if (document.hidden || live.contains(document.activeElement)) return;
    const reply = await fetch(location.href, { credentials: "same-origin" }).catch(() => null);
    if (!reply || !reply.ok) return;
    const page = new DOMParser().parseFromString(await reply.text(), "text/html");
    const fresh = page.querySelector("[data-live]");
    if (fresh && fresh.innerHTML !== old) { old = fresh.innerHTML; live.replaceChildren(...fresh.childNodes); }
  }, 2000);
}

const list = document.querySelector("[data-stream]");
if (list) {
  const told = document.getElementById("stream");
  const source = new EventSource(list.dataset.stream);
  source.onopen = () => { told.textContent = "Live: newer ones appear by themselves."; };
  source.onerror = () => { told.textContent = "The connection broke; trying again."; };
  source.addEventListener("end", () => { source.close(); told.textContent = "Ended: open the page again."; });
  source.addEventListener("line", (event) => {
    const page = new DOMParser().parseFromString(event.data, "text/html");
    const line = page.querySelector("li");
    if (!line) return;
    list.prepend(line);
    while (list.children.length > 200) list.lastElementChild.remove();
  });
}
