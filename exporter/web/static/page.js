// The page renews itself: it asks for itself again and takes over what differs, in place, so that scroll, focus,
// selection and what is being typed stay where they are.
"use strict";

const seconds = Number(document.body.dataset.refreshSeconds);
const lost = document.getElementById("lost");
let timer = 0;
let last = new Date();

document.documentElement.classList.add("scripted");

function takeAttributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

const same = (one, other) =>
  one.nodeType === other.nodeType && one.nodeName === other.nodeName && (one.id || "") === (other.id || "");

function take(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.nodeName === "FORM") return; // a person is writing in it
  const turned = old.dataset && old.dataset.state !== fresh.dataset.state;
  takeAttributes(old, fresh);
  if (turned) old.classList.add("turned");
  const known = new Map();
  for (const child of old.children) if (child.id) known.set(child.id, child);
  const wanted = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
  let next = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    // What will not be there any more makes way, so that what stays needn't move.
    while (next && next.id && !wanted.has(next.id)) {
      const gone = next;
      next = next.nextSibling;
      gone.remove();
    }
    const kept = child.id ? known.get(child.id) : next && same(next, child) ? next : null;
    if (kept && kept.nodeName === child.nodeName) {
      if (kept === next) next = next.nextSibling;
      else old.insertBefore(kept, next);
      take(kept, child);
    } else {
      old.insertBefore(document.adoptNode(child), next);
    }
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

function keepingPlace(change) {
  const selection = getSelection();
  const ends = selection.rangeCount && !selection.isCollapsed
    ? [selection.anchorNode, selection.anchorOffset, selection.focusNode, selection.focusOffset]
    : null;
  const focused = document.activeElement;
  change();
  if (focused && focused !== document.activeElement) {
    const again = focused.isConnected ? focused : focused.id && document.getElementById(focused.id);
    (again || document.getElementById("main")).focus({ preventScroll: true });
  }
  if (ends && ends[0].isConnected && ends[2].isConnected) {
    const within = (node, offset) =>
      Math.min(offset, node.nodeType === Node.TEXT_NODE ? node.length : node.childNodes.length);
    selection.setBaseAndExtent(ends[0], within(ends[0], ends[1]), ends[2], within(ends[2], ends[3]));
  }
}

async function renew() {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(30000) });
    const html = (answer.headers.get("Content-Type") || "").startsWith("text/html");
    if (!html || (!answer.ok && answer.status !== 404)) throw new Error(`the exporter answers ${answer.status}`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    keepingPlace(() => {
      document.title = fresh.title;
      for (const id of ["main", "told"]) take(document.getElementById(id), fresh.getElementById(id));
    });
    last = new Date();
    lost.hidden = true;
  } catch (error) {
    const why = error.message.startsWith("the exporter") ? error.message : "the exporter does not answer";
    const text = `Not renewed since ${last.toISOString().slice(11, 19)} UTC: ${why}. What is shown is of then.`;
    if (lost.textContent !== text) lost.textContent = text;
    lost.hidden = false;
  }
  timer = setTimeout(renew, seconds * 1000);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) renew();
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const code = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 2000);
  } catch {
    getSelection().selectAllChildren(code); // no clipboard here: it is one key away
  }
});

timer = setTimeout(renew, seconds * 1000);
