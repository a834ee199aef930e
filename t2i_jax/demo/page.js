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
  try {
    let answer = await fetch("/?" + query, { signal });
    while (answer.status === 429) {
      await new Promise(done => setTimeout(done, 1000 * answer.headers.get("Retry-After")));
      answer = await fetch("/?" + query, { signal });
    }
    const text = await answer.text();
    if (signal.aborted) return;
    if (answer.ok) {
      update(new DOMParser().parseFromString(text, "text/html"), show, query.get("step"));
    } else say(text);
  } catch (error) {
    if (!signal.aborted) say("The server does not answer; is it still running?");
  }
  if (signal.aborted) return;
  form.removeAttribute("aria-busy");
  if (shown && !show) timer = setTimeout(draw, PAUSE, shown);
}

function update(page, show, step) {
  const focused = document.activeElement.getAttribute("href");
  for (const id of show ? [...parts, ...further] : parts) {
    const [old, fresh] = [document, page].map(where => where.getElementById(id));
    if (old && fresh) replace(old, fresh);
  }
  renewSteps(page, step);
  say(page.getElementById("said").textContent);
  const link = document.getElementById("link");
  if (link) history.replaceState(null, "", link.href);
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
  clearTimeout(timer);
  if (event.target.id === "to") {
    if (shown === "between") timer = setTimeout(draw, PAUSE, shown);
  } else {
    timer = setTimeout(draw, TYPING);
  }
});

form.addEventListener("submit", event => {
  event.preventDefault();
  const button = event.submitter;
  if (button?.name === "another") fields.noise.value = Number(fields.noise.value) + 1;
  if (button?.name === "show") shown = button.value;
  draw(document.activeElement.id === "to" ? (shown = "between") : shown);
});

// A link to another caption or noise fills the form in.
form.addEventListener("click", event => {
  const link = event.target.closest("a.go");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const query = new URL(link.href).searchParams;
  for (const name of ["caption", "noise", "to"]) {
    if (fields[name] && query.has(name)) fields[name].value = query.get(name);
  }
  if (link.closest(".unknown")) fields[link.closest("#unknown") ? "caption" : "to"].focus();
  draw(shown);
});

shown = new URLSearchParams(location.search).get("show") || "";
slide();
