// Draws while a caption is typed: asks the server for the page of what stands in the form, and puts
// what has changed of it in the place of what is shown. Without this the form does the same.
"use strict";

const form = document.querySelector("form");
const fields = form.elements;
const parts = ["unknown", "newest", "strip", "files"]; // of every caption
const further = ["noises", "to-unknown", "between"]; // what a button has asked for
const TYPING = 80, PAUSE = 700; // milliseconds after a key: for the pictures, for the rest
let shown = ""; // the value of that button
let request = new AbortController();
let timer = 0;

document.documentElement.classList.add("js");

async function draw(show = "") {
  clearTimeout(timer);
  request.abort();
  request = new AbortController();
  const signal = request.signal;
  const query = new URLSearchParams(new FormData(form));
  if (show) query.set("show", show);
  form.setAttribute("aria-busy", "true");
  const { page, refusal } = await get("/?" + query, signal);
  if (signal.aborted) return;
  form.removeAttribute("aria-busy");
  if (!page) return say(refusal);
  update(page, show, query.get("step"));
  timer = setTimeout(() => {
    setAddress();
    if (shown !== show) draw(shown);
  }, PAUSE);
}

// The page at this address; or, of another answer or none, a sentence for the status line.
async function get(address, signal) {
  let answer, text;
  try {
    answer = await fetch(address, { signal });
    while (answer.status === 429) {
      const told = Number(answer.headers.get("Retry-After"));
      const seconds = told >= 1 ? Math.min(told, 60) : 1; // None, or a date: one second.
      await new Promise(done => setTimeout(done, 1000 * seconds));
      answer = await fetch(address, { signal });
    }
    text = await answer.text();
  } catch (error) {
    return { refusal: "The server does not answer; is it still running?" };
  }
  const page = new DOMParser().parseFromString(text, "text/html");
  if (answer.ok && page.getElementById("said")) return { page };
  const isSentence = answer.headers.get("Content-Type")?.startsWith("text/plain");
  return { refusal: isSentence ? text : `No page came (status ${answer.status}); try again.` };
}

// A reload brings back what stands in the form.
function setAddress() {
  const query = new URLSearchParams(new FormData(form));
  query.delete("to");
  try {
    history.replaceState(null, "", "/?" + query);
  } catch (error) {
    // Safari refuses more than 100 calls in 30 s; the next pause sets it.
  }
}

function update(page, show, step) {
  const focused = document.activeElement.getAttribute("href");
  for (const id of show ? [...parts, ...further] : parts) {
    const [old, fresh] = [document, page].map(where => where.getElementById(id));
    if (old && fresh) replace(old, fresh);
  }
  renewSteps(page, step);
  say(page.getElementById("said").textContent);
  if (focused && document.activeElement === document.body) {
    document.querySelector(`a.go[href="${CSS.escape(focused)}"]`)?.focus();
  }
  slide();
}

// Nodes that are the same stay, so that pictures do not flicker and the focus is kept.
function replace(old, fresh) {
  const nodes = [...fresh.childNodes];
  nodes.forEach((node, i) => {
    const before = old.childNodes[i];
    if (!before) old.append(node);
    else if (!before.isEqualNode(node)) before.replaceWith(node);
  });
  while (old.childNodes.length > nodes.length) old.lastChild.remove();
}

// The run's checkpoints change while it is trained. As long as they do not, and the one that was
// asked for is there, the field stays as it is, open or with the focus.
function renewSteps(page, asked) {
  const [old, fresh] = [document, page].map(where => where.getElementById("steps"));
  const used = fresh.querySelector("[name=step]").value;
  if (used === asked && old.textContent === fresh.textContent) return;
  const chosen = fields.step.value;
  const focused = old.contains(document.activeElement);
  old.replaceChildren(...fresh.childNodes);
  if (chosen !== asked) fields.step.value = chosen; // since it was asked
  if (focused) fields.step.focus();
}

function say(text) {
  const said = document.getElementById("said");
  if (said.textContent !== text) said.textContent = text;
}

function slide() {
  const slider = document.getElementById("share");
  if (!slider) return;
  const image = document.querySelectorAll("#between ol img")[slider.value];
  const large = document.querySelector(".slider img");
  large.src = image.src;
  large.alt = image.alt;
  slider.setAttribute("aria-valuetext", image.alt);
}

form.addEventListener("input", event => {
  if (event.target.id === "share") return slide();
  if (event.target.id === "to") {
    if (shown !== "between") return;
    clearTimeout(timer);
    timer = setTimeout(draw, PAUSE, shown);
  } else {
    clearTimeout(timer);
    timer = setTimeout(draw, TYPING);
  }
});

form.addEventListener("submit", event => {
  event.preventDefault();
  const button = event.submitter;
  if (button?.name === "another") {
    fields.noise.value = (Number(fields.noise.value) + 1) % (Number(fields.noise.max) + 1);
  }
  if (button?.name === "show") shown = button.value;
  draw(document.activeElement.id === "to" ? (shown = "between") : shown);
});

// A link changes one thing of what stands in the form now: an unknown word, or the noise.
form.addEventListener("click", event => {
  const link = event.target.closest("a.go");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (link.dataset.word) {
    const field = fields[link.closest("#unknown") ? "caption" : "to"];
    field.value = replaceWord(field.value, link.dataset.word, link.textContent);
    field.focus();
  } else {
    fields.noise.value = new URL(link.href).searchParams.get("noise");
  }
  draw(shown);
});

// Words as the server reads them: in lower case, joined inside by hyphens and apostrophes.
function replaceWord(text, word, known) {
  const words = /[\p{L}\p{N}][\p{L}\p{N}\p{M}\u200c\u200d]*(?:['’‐‑-][\p{L}\p{N}\p{M}]+)*/gu;
  const plain = one => one.toLowerCase().replace(/[’ʼ]/g, "'").replace(/[‐‑]/g, "-");
  return text.normalize("NFC").replace(words, one => (plain(one) === word ? known : one));
}

shown = new URLSearchParams(location.search).get("show") || "";
slide();
