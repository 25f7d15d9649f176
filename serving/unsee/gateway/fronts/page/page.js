// The page: reads the form, asks for one clip per chosen policy with one seed, shows them together.

import { generate, policies, Refused, report, token } from "./api.js";
import { Card, element, verdict } from "./card.js";
import { Player } from "./player.js";

const CHOSEN_AT_FIRST = 3;
const SEEDS = 2 ** 32;
const $ = (id) => document.getElementById(id);

const form = $("ask");
const player = new Player($("player"));
let known = new Map(); // policies by name, as the gateway told them last
let running = null; // the AbortController of the clips being made

function say(sentence) {
  if ($("status").textContent !== sentence) $("status").textContent = sentence;
}

function showError(sentence) {
  $("error").textContent = sentence;
  $("error").hidden = !sentence;
}

// ---- who asks, and what it may use

async function connect() {
  showError("");
  try {
    const told = await policies();
    remember(told);
    offer(told);
    return true;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.code === 401) askForToken(token.get() ? error.message : "");
    else showError(error.message);
    return false;
  }
}

function remember(told) {
  known = new Map(told.policies.map((policy) => [policy.policy, policy]));
}

function offer(told) {
  const names = [...known.keys()];
  const before = [...form.querySelectorAll("input[name=policy]:checked")].map((box) => box.value);
  const first = [...new Set([told.default_policy, ...names])].filter((name) => known.has(name));
  const chosen = new Set(before.length ? before : first.slice(0, CHOSEN_AT_FIRST));
  $("policies").replaceChildren(...[...known.values()].map((policy) => choice(policy, chosen)));
  if (names.length === 0) showError("This token may use no policy, so there is nothing to make.");
  if (told.base) limit(told.base);
  form.hidden = false;
  $("hint").hidden = true;
}

function choice(policy, chosen) {
  const box = element("input", { type: "checkbox", name: "policy", value: policy.policy });
  box.checked = chosen.has(policy.policy);
  const [tone, word] = verdict(policy);
  const about = element("small", { className: tone, textContent: word });
  return element("label", { className: "choice" }, box, element("span", {}, policy.policy, about));
}

function limit({ defaults, limits, latents }) {
  for (const [id, field] of [["steps", "num_inference_steps"], ["frames", "num_frames"]]) {
    [$(id).min, $(id).max] = limits[field];
    $(id).placeholder = defaults[field];
  }
  $("frames").step = latents.frames_per_latent; // from one frame on
}

function askForToken(sentence) {
  $("token-error").textContent = sentence;
  $("token").value = "";
  $("forget-token").hidden = !token.get();
  if (!$("token-dialog").open) $("token-dialog").showModal();
  $("token").focus();
}

$("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  token.set($("token").value.trim());
  if (await connect()) {
    $("token-dialog").close();
    $("prompt").focus();
  }
});
$("change-token").addEventListener("click", () => askForToken(""));
$("forget-token").addEventListener("click", () => {
  token.forget();
  location.reload();
});
$("close-token").addEventListener("click", () => $("token-dialog").close());

// ---- the clips

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running === null) make();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
$("new-seed").addEventListener("click", newSeed);
$("cancel").addEventListener("click", () => running?.abort());

function newSeed() {
  $("seed").value = Math.floor(Math.random() * SEEDS);
}

function asked() {
  const numbers = { seed: "seed", num_inference_steps: "steps", num_frames: "frames" };
  const request = { prompt: $("prompt").value, acceleration: $("acceleration").value };
  for (const [field, id] of Object.entries(numbers)) {
    if ($(id).value !== "") request[field] = Number($(id).value);
  }
  return request;
}

async function make() {
  const boxes = [...form.querySelectorAll("input[name=policy]:checked")];
  if (boxes.length === 0) {
    showError("Choose at least one policy.");
    return;
  }
  showError("");
  if ($("seed").value === "") newSeed();
  const actions = { report: openReport };
  const cards = boxes.map((box) => new Card(known.get(box.value), actions));
  $("clips").replaceChildren(...cards.map((card) => card.root));
  $("results").hidden = false;
  cards[0].root.scrollIntoView({ block: "nearest" });
  player.clear();
  const run = new Run(asked(), cards);
  running = run.controller;
  busy(true);
  say(run.sentence());
  await Promise.all(cards.map((card) => run.one(card)));
  running = null;
  busy(false);
  say(run.ending());
  if (run.swapped) await connect();
}

class Run {
  constructor(request, cards) {
    this.request = request;
    this.controller = new AbortController();
    this.parts = new Map(cards.map((card) => [card, 0]));
    this.made = 0;
    this.failed = 0;
    this.swapped = false;
  }

  async one(card) {
    const request = { ...this.request, policy: card.name };
    const policy = known.get(card.name);
    try {
      const result = await generate(request, this.controller.signal, (step, steps) => {
        card.step(step, steps);
        this.parts.set(card, step / steps);
        say(this.sentence());
      });
      player.add(card.show(result, policy));
      this.made += 1;
      this.swapped ||= policy.active_revision !== null && policy.active_revision !== result.record.revision;
    } catch (error) {
      if (error.name === "AbortError") {
        card.cancel();
      } else {
        card.fail(error.message);
        this.failed += 1;
        if (error.code === 401) askForToken(error.message);
      }
    }
    this.parts.set(card, 1);
    say(this.sentence());
  }

  sentence() {
    const shares = [...this.parts.values()];
    const percent = (100 * shares.reduce((a, b) => a + b, 0)) / shares.length;
    const tens = 10 * Math.floor(percent / 10); // said aloud: not at every step
    return `Making ${counted(shares.length)}: ${tens} %`;
  }

  ending() {
    if (this.controller.signal.aborted) return "Cancelled.";
    if (this.failed) return `${counted(this.made)} made, ${this.failed} failed.`;
    return `${counted(this.made)} made with seed ${this.request.seed}.`;
  }
}

function counted(number) {
  return number === 1 ? "1 clip" : `${number} clips`;
}

function busy(is) {
  const cancelled = document.activeElement === $("cancel");
  $("cancel").hidden = !is;
  $("generate").disabled = is;
  if (is && document.activeElement === document.body) $("cancel").focus();
  if (!is && cancelled) $("generate").focus();
}

// ---- reports

async function openReport(policy) {
  let page;
  try {
    page = await report(policy.report);
  } catch (error) {
    showError(error.message);
    return;
  }
  const frame = element("iframe", { title: `Report of ${policy.policy}` });
  frame.setAttribute("sandbox", "allow-scripts");
  frame.addEventListener("load", () => frame.contentWindow.postMessage(page, "*"), { once: true });
  frame.src = "/page/report_frame.html";
  $("report-title").textContent = `Report of ${policy.policy}, revision ${policy.active_revision}`;
  $("report-place").replaceChildren(frame);
  $("report-dialog").showModal();
}
$("close-report").addEventListener("click", () => $("report-dialog").close());
$("report-dialog").addEventListener("close", () => $("report-place").replaceChildren());

newSeed();
// Over plain HTTP only a token tells who asks; over TLS it may be a certificate.
if (token.get() || location.protocol === "https:") await connect();
else askForToken("");
