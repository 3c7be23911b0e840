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
