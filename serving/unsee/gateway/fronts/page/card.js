// What is seen of one policy: who it is, how far its clip is, the clip, and what made it.
// Knows no network; `actions` says what its buttons do.

import { animatedPng } from "./animated_png.js";
import { draw, parse } from "./clip.js";

const SMALL = 256; // pixels: clips with a shorter side are enlarged without smoothing
const SHOWN_DIGITS = 12;
const MADE_BY = [
  ["seed", "Seed"],
  ["num_inference_steps", "Steps"],
  ["acceleration", "Acceleration"],
  ["guidance_scale", "Guidance"],
  ["scheduler", "Scheduler"],
  ["base", "Base"],
];

/** An element with attributes (or properties, such as textContent) and children. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** `sha256:` and the first digits; the rest is in the tooltip. */
export function digest(value) {
  const short = value.slice(0, value.indexOf(":") + 1 + SHOWN_DIGITS);
  return element("code", { title: value, textContent: `${short}…` });
}

/** The gate's word on a policy's active revision: tone, word, and what else there is to say. */
export function verdict(policy) {
  const told = policy.verdict;
  if (policy.policy === "base") return ["plain", "unsees nothing", ""];
  if (!told) return ["plain", "no verdict on record", ""];
  const day = told.published_at.slice(0, 10);
  const looser = told.looser_than_default ?? [];
  const terms = looser.length ? `; ${looser.join("; ")}` : "";
  if (told.passed) return [looser.length ? "plain" : "good", "passed its gate", `, published ${day}${terms}`];
  const word = told.forced ? "published by force" : "published without passing";
  return ["bad", word, ` on ${day}: ${told.unmet.join("; ")}${terms}`];
}

export class Card {
  constructor(policy, actions) {
    this.name = policy.policy;
    this.actions = actions;
    this.about = element("div", { className: "about" });
    this.progress = element("progress", { max: 1 });
    this.progress.setAttribute("aria-label", `Progress of ${this.name}`);
    this.state = element("p", { className: "state" });
    this.screen = element("div", { className: "screen" }, this.progress);
    this.made = element("div", { className: "made" });
    const heading = element("h2", { id: `clip-${this.name}`, textContent: this.name });
    this.root = element("article", {}, heading, this.about, this.screen, this.state, this.made);
    this.root.setAttribute("aria-labelledby", heading.id);
    this.describe(policy);
    this.wait();
  }

  /** Revision, digest, verdict and report, as the gateway tells them of the active revision. */
  describe(policy) {
    const [tone, word, more] = verdict(policy);
    const line = element("p", { className: "revision" });
    line.append(policy.active_revision === null ? "revision unknown" : `revision ${policy.active_revision}`);
    if (policy.edit_digest) line.append(" · ", digest(policy.edit_digest));
    this.about.replaceChildren(line, element("p", { className: `verdict ${tone}`, textContent: word + more }));
    if (policy.unsees?.length) {
      this.about.append(element("p", { textContent: `unsees ${policy.unsees.join(", ")}` }));
    }
    if (policy.report) {
      const button = element("button", { type: "button", className: "link", textContent: "Report" });
      button.setAttribute("aria-label", `Report of ${this.name}`);
      button.addEventListener("click", () => this.actions.report(policy));
      this.about.append(button);
    }
  }

  wait() {
    this.root.dataset.state = "running";
    this.state.textContent = "waiting for the first step";
  }

  step(step, steps) {
    this.progress.max = steps;
    this.progress.value = step;
    this.state.textContent = `step ${step} of ${steps}`;
  }

  /** The clip is there: shows it and returns what the player needs. */
  show({ record, npy, mp4 }, policy) {
    const clip = parse(npy);
    const canvas = element("canvas", { width: clip.width, height: clip.height });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Clip of ${this.name}: ${record.prompt}`);
    canvas.className = Math.min(clip.width, clip.height) < SMALL ? "small" : "";
    this.root.dataset.state = "done";
    this.screen.replaceChildren(canvas);
    this.state.textContent = `${total(record.seconds)} s, ${clip.numFrames} frames, ${clip.width} × ${clip.height}`;
    // What made this clip, even if another revision has become active since it was listed.
    const same = policy.active_revision === record.revision;
    const known = same ? policy : { policy: policy.policy };
    const made = { active_revision: record.revision, edit_digest: record.edit_digest };
    this.describe({ ...known, ...made });
    this.made.replaceChildren(this.downloads(clip, record, { npy, mp4 }), details(record));
    return { numFrames: clip.numFrames, fps: record.fps, show: (index) => draw(canvas, clip, index) };
  }

  fail(sentence) {
    this.root.dataset.state = "failed";
    this.screen.replaceChildren();
    this.state.textContent = sentence;
  }

  cancel() {
    this.root.dataset.state = "cancelled";
    this.screen.replaceChildren();
    this.state.textContent = "cancelled";
  }

  downloads(clip, record, { npy, mp4 }) {
    const name = `${record.policy}-r${record.revision}-seed${record.seed}`;
    const row = element("p", { className: "downloads" }, "Download");
    const video = ["mp4", "Clip (MP4)", () => new Blob([mp4], { type: "video/mp4" })];
    const files = [
      ...(mp4 ? [video] : []),
      ["png", "Clip (PNG)", () => animatedPng(clip, record.fps)],
      ["npy", "Frames (npy)", () => new Blob([npy])],
      ["json", "Record (JSON)", () => new Blob([JSON.stringify(record, null, 2)])],
    ];
    for (const [suffix, label, content] of files) {
      const button = element("button", { type: "button", className: "link", textContent: label });
      button.setAttribute("aria-label", `Download of ${this.name}: ${label}`);
      button.addEventListener("click", async () => save(await content(), `${name}.${suffix}`));
      row.append(button);
    }
    return row;
  }
}

function details(record) {
  const list = element("dl");
  for (const [key, label] of MADE_BY) {
    list.append(element("dt", { textContent: label }), element("dd", { textContent: record[key] ?? "" }));
  }
  return element("details", {}, element("summary", { textContent: "What made it" }), list);
}

function total(seconds) {
  const sum = Object.values(seconds ?? {}).reduce((a, b) => a + b, 0);
  return sum.toFixed(sum < 10 ? 1 : 0);
}

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
