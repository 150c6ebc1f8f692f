// Refreshes the page in place: fetches it again and changes only what differs, so that scroll position, focus,
// selection and text being typed are kept. A filter that changes is put into the address, and applies that way too.
"use strict";

const seconds = Number(document.body.dataset.refreshSeconds);
const outdated = document.getElementById("outdated");
const copied = document.getElementById("copied");
const TYPING = 300; // milliseconds without a key before a filter applies
let timer = 0;
let checks = 0; // started; a refresh that began before a check must not replace its result
let checking = false;
let refreshed = new Date();
let current = null; // the request of the latest refresh
let filtering = 0; // the timer of a filter that is about to apply
let edited = null; // the field whose changes share one entry of the history
let restore = false; // whether the next refresh sets the fields as the address has them
let shown = location.search;

document.documentElement.classList.add("scripted");

function patchAttributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (name === "open") continue; // what someone has opened stays open
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

const same = (one, other) =>
  one.nodeType === other.nodeType && one.nodeName === other.nodeName && (one.id || "") === (other.id || "");

function patch(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.nodeName === "INPUT" || old.nodeName === "SELECT") return; // someone may be typing in it
  const changed = old.dataset && old.dataset.state !== fresh.dataset.state;
  patchAttributes(old, fresh);
  if (changed) old.classList.add("changed");
  const known = new Map();
  for (const child of old.children) if (child.id) known.set(child.id, child);
  const wanted = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
  let next = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    // Remove what is gone first, so that what stays is not moved: moving an element loses its focus.
    while (next && next.id && !wanted.has(next.id)) {
      const gone = next;
      next = next.nextSibling;
      gone.remove();
    }
    const kept = child.id ? known.get(child.id) : next && same(next, child) ? next : null;
    if (kept && kept.nodeName === child.nodeName) {
      while (next && next !== kept && !(next.id && wanted.has(next.id))) {
        const gone = next;
        next = next.nextSibling;
        gone.remove();
      }
      if (kept === next) next = next.nextSibling;
      else old.insertBefore(kept, next);
      patch(kept, child);
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

function keepFocusAndSelection(change) {
  const selection = getSelection();
  const ends = selection.rangeCount && !selection.isCollapsed
    ? [selection.anchorNode, selection.anchorOffset, selection.focusNode, selection.focusOffset]
    : null;
  const focused = document.activeElement;
  const { selectionStart, selectionEnd } = focused || {};
  change();
  if (focused && focused !== document.activeElement) {
    const target = focused.isConnected ? focused : focused.id && document.getElementById(focused.id);
    (target || document.getElementById("main")).focus({ preventScroll: true });
    if (target && selectionStart != null) target.setSelectionRange(selectionStart, selectionEnd);
  }
  if (ends && ends[0].isConnected && ends[2].isConnected) {
    const within = (node, offset) =>
      Math.min(offset, node.nodeType === Node.TEXT_NODE ? node.length : node.childNodes.length);
    selection.setBaseAndExtent(ends[0], within(ends[0], ends[1]), ends[2], within(ends[2], ends[3]));
  }
}

function show(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  keepFocusAndSelection(() => {
    document.title = fresh.title;
    if (restore) replaceFilter(fresh);
    for (const id of ["main", "as-of"]) patch(document.getElementById(id), fresh.getElementById(id));
  });
  restore = false;
  refreshed = new Date();
  outdated.hidden = true;
}

const isPage = (answer) => (answer.headers.get("Content-Type") || "").startsWith("text/html");

async function refresh() {
  clearTimeout(timer);
  if (document.hidden || checking) return;
  if (current) current.abort();
  const own = (current = new AbortController());
  const before = checks;
  const outdone = () => own !== current || checks !== before; // by a newer address, or by a check
  const limit = setTimeout(() => own.abort(), 30000);
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: own.signal });
    if (!isPage(answer) || (!answer.ok && answer.status !== 404)) throw new Error(`the exporter returned HTTP ${answer.status}`);
    const html = await answer.text();
    if (outdone()) return;
    show(html);
  } catch (error) {
    if (outdone()) return;
    const why = error.message.startsWith("the exporter") ? error.message : "the exporter is unreachable";
    const text = `Not refreshed since ${refreshed.toISOString().slice(11, 19)} UTC: ${why}. The values below are from that time.`;
    if (outdated.textContent !== text) outdated.textContent = text;
    outdated.hidden = false;
  } finally {
    clearTimeout(limit);
  }
  timer = setTimeout(refresh, seconds * 1000);
}

function replaceFilter(fresh) {
  const [old, wanted] = [document, fresh].map((page) => page.getElementById("filter"));
  if (old && wanted) old.replaceWith(document.importNode(wanted, true));
  describeKey();
}

function describeKey() {
  const search = document.getElementById("q");
  if (search) search.setAttribute("aria-keyshortcuts", "/");
}

function applyFilter(form, field) {
  clearTimeout(filtering);
  restore = false;
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value.trim()) query.append(name, value.trim());
  const search = String(query) && `?${query}`;
  if (search !== location.search) {
    // One entry of the history per field, not one per key.
    history[edited === field ? "replaceState" : "pushState"](null, "", `./${search}`);
    edited = field;
    shown = location.search;
  }
  refresh();
}

function filterSoon(event) {
  const { form } = event.target;
  if (!form || form.id !== "filter" || event.isComposing) return;
  clearTimeout(filtering);
  filtering = setTimeout(() => applyFilter(form, event.target), TYPING);
}

document.addEventListener("input", filterSoon);
document.addEventListener("compositionend", filterSoon);

document.addEventListener("submit", (event) => {
  if (event.target.id !== "filter") return;
  event.preventDefault();
  applyFilter(event.target, document.activeElement);
});

document.addEventListener("focusin", (event) => {
  if (event.target !== edited) edited = null;
});

addEventListener("popstate", () => {
  if (location.search === shown) return; // only the fragment changed
  clearTimeout(filtering);
  shown = location.search;
  edited = null;
  restore = true;
  refresh();
});

document.addEventListener("keydown", (event) => {
  const search = document.getElementById("q");
  if (!search || event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, [contenteditable]")) return;
  event.preventDefault();
  search.focus();
  search.select();
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});

async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    // Over plain HTTP there is no clipboard object. The text stays selected, so that one key copies it.
    getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  copied.textContent = "";
  const done = await copy(document.getElementById(button.dataset.copy));
  copied.textContent = `${button.dataset.what}: ${done ? "copied" : "selected, but not copied"}`;
  if (!done) return;
  button.classList.add("done");
  setTimeout(() => button.classList.remove("done"), 2000);
});

document.addEventListener("submit", async (event) => {
  if (event.target.id !== "check") return;
  event.preventDefault();
  if (checking) return;
  const button = event.target.querySelector("button");
  const label = button.textContent;
  checking = true;
  checks += 1;
  clearTimeout(timer);
  button.setAttribute("aria-disabled", "true"); // a disabled button would lose the focus
  button.textContent = "Checking…";
  try {
    const answer = await fetch(location.href, { method: "POST", signal: AbortSignal.timeout(60000) });
    const text = await answer.text();
    if (isPage(answer)) show(text);
    else document.getElementById("checked").textContent = `Not checked: HTTP ${answer.status}, ${text}`;
  } catch {
    document.getElementById("checked").textContent = "No result: the exporter did not answer.";
  }
  button.removeAttribute("aria-disabled");
  button.textContent = label;
  checking = false;
  timer = setTimeout(refresh, seconds * 1000);
});

document.addEventListener("keydown", (event) => {
  const opened = event.key === "Escape" && event.target.closest && event.target.closest("details[open]");
  if (!opened) return;
  opened.open = false;
  opened.querySelector("summary").focus();
});

describeKey();
timer = setTimeout(refresh, seconds * 1000);
