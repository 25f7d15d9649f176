// Generated from clients/contract/text_to_video.json by `make stubs`; do not edit.

import type { ModelInferRequest } from "./generated/inference/ModelInferRequest.js";
import type { ModelInferResponse__Output } from "./generated/inference/ModelInferResponse.js";

export const MODEL = "text_to_video";

/** What to generate; what is left out is the server's choice, and the record says what it chose. */
export interface GenerateRequest {
  /** What the clip should show; a prompt of more tokens than the text encoder takes is refused, never cut. */
  prompt: string;
  /** What the clip should not show. */
  negative_prompt?: string;
  /** The concept policy to apply; required if there is no default (default: that of the tenant or the repository). */
  policy?: string;
  /** One of the policy's eligible revisions (default: the active one). */
  revision?: number;
  /** Seed of the noise; equal requests with equal seeds give equal bytes (default: drawn, and recorded). */
  seed?: number;
  /** How many steps the scheduler takes (default: the base's). */
  num_inference_steps?: number;
  /** How closely to follow the prompt (classifier-free guidance); 1 or less switches guidance off (default: the base's). */
  guidance_scale?: number;
  /** Length of the clip in frames (default: the base's). */
  num_frames?: number;
  /** Height of the clip in pixels (default: the base's). */
  height?: number;
  /** Width of the clip in pixels (default: the base's). */
  width?: number;
  /** Name of a diffusers scheduler that the server offers, such as DDIMScheduler (default: the base's). */
  scheduler?: string;
  /** How far to shorten the work: in some steps the video model is extrapolated instead of evaluated, which gives a similar clip sooner. */
  acceleration?: "none" | "balanced" | "fast";
  /** Send the frames in parts, each as soon as it is decoded, instead of all at the end; a base whose decoder gives all frames at once sends one part. */
  stream_frames?: boolean;
}

/** What made a clip; a newer server may send more fields, and they are kept. */
export interface GenerationRecord {
  /** As requested. */
  prompt: string;
  /** As requested. */
  negative_prompt?: string;
  /** The concept policy that was applied. */
  policy: string;
  /** The policy's revision that was applied. */
  revision: number;
  /** Digest of what the revision edits; null for the base's own policy. */
  edit_digest?: string | null;
  /** Name of the base. */
  base: string;
  /** Digest of the base's files. */
  base_digest: string;
  /** As requested, or as drawn. */
  seed: number;
  /** As requested, or the default. */
  scheduler: string;
  /** As requested, or the default. */
  acceleration?: string;
  /** Steps of the scheduler. */
  num_inference_steps: number;
  /** As requested, or the default. */
  guidance_scale: number;
  /** Length of the clip in frames. */
  num_frames: number;
  /** In pixels. */
  height: number;
  /** In pixels. */
  width: number;
  /** Frames per second to play it at. */
  fps: number;
  /** When the model began, in UTC, as ISO 8601. */
  started_at: string;
  /** Seconds per stage, by its name. */
  seconds?: Record<string, number>;
  /** Digests of the exported graphs, by their name. */
  graphs?: Record<string, string>;
}

/** Sent after every evaluation of the video model. */
export interface Progress {
  type: "progress";
  /** Evaluations done, from 1. */
  step: number;
  /** Evaluations in all; with an acceleration fewer than the request's steps, which the record keeps. */
  num_inference_steps: number;
}

/** Sent with `stream_frames` as soon as frames are decoded, together with them. */
export interface Part {
  type: "part";
  /** Where the first of the frames is in the clip, from 0. */
  first_frame: number;
  /** How many frames the clip will have. */
  num_frames: number;
  /** Frames per second to play them at. */
  fps: number;
  /** UINT8 of `shape`, RGB, one after the other. */
  frames: Uint8Array;
  shape: Shape;
}

/** The last event: frames are UINT8 [num_frames, height, width, 3], RGB, one after the other. */
export interface Clip {
  type: "result";
  frames: Uint8Array;
  shape: Shape;
  record: GenerationRecord;
}

export type Shape = [num_frames: number, height: number, width: number, channels: 3];

export type Event = Progress | Part | Clip;

/** How a request can fail: names of gRPC statuses by their numbers. */
export const STATUSES = {
  /** The client cancelled, went away or read too slowly; work stops within one step. */
  1: "CANCELLED",
  /** A text of Triton's own, which has no status: an input of the wrong type, say, or no such model. */
  2: "UNKNOWN",
  /** An input is missing, of the wrong type or shape, or outside the limits. */
  3: "INVALID_ARGUMENT",
  /** The caller's time ran out, or is shorter than such a clip takes. */
  4: "DEADLINE_EXCEEDED",
  /** Unknown policy, or a revision that the policy does not offer. */
  5: "NOT_FOUND",
  /** The caller may not use this policy, revision, model or method. */
  7: "PERMISSION_DENIED",
  /** The caller's queue or the gateway's is full, or its turn would come too late for its deadline; `retry-after-ms` (HTTP: `Retry-After`) says when to ask again. */
  8: "RESOURCE_EXHAUSTED",
  /** There is no such method. */
  12: "UNIMPLEMENTED",
  /** The server failed; its log says why, the answer does not. */
  13: "INTERNAL",
  /** The queue is full, a policy has no active revision, or nobody answers. */
  14: "UNAVAILABLE",
  /** No token or certificate that the gateway knows. */
  16: "UNAUTHENTICATED",
} as const;

export type Status = (typeof STATUSES)[keyof typeof STATUSES];

/** A request that gets no clip: its status, and one sentence as the message. */
export class GenerationError extends Error {
  override readonly name = "GenerationError";

  /** `retryAfterMs`: when asking a gateway again may help. */
  constructor(
    readonly status: Status,
    sentence: string,
    readonly retryAfterMs?: number,
  ) {
    super(sentence);
  }

  /** What the model answers, `STATUS: sentence`; Triton's own refusals carry no status. */
  static read(text: string): GenerationError {
    const [, name, sentence = ""] = /^([A-Z_]+): (.+)$/s.exec(text) ?? [];
    const status = Object.values(STATUSES).find((status) => status === name);
    return status ? new GenerationError(status, sentence) : new GenerationError("UNKNOWN", text);
  }
}

/** The inputs, tensors of shape [1]. */
const INPUTS: Record<string, Input> = {
  prompt: text("BYTES"),
  negative_prompt: text("BYTES"),
  policy: text("BYTES"),
  revision: whole("INT64", -9007199254740991, 9007199254740991),
  seed: whole("INT64", 0, 9007199254740991),
  num_inference_steps: whole("INT32", -2147483647, 2147483647),
  guidance_scale: real("FP32", -3.4e+38, 3.4e+38),
  num_frames: whole("INT32", -2147483647, 2147483647),
  height: whole("INT32", -2147483647, 2147483647),
  width: whole("INT32", -2147483647, 2147483647),
  scheduler: text("BYTES"),
  acceleration: text("BYTES"),
  stream_frames: flag("BOOL"),
};

/** The message of a request. Throws GenerationError (INVALID_ARGUMENT) naming what does not fit. */
export function writeRequest(request: GenerateRequest): ModelInferRequest {
  const inputs = [];
  const raw_input_contents = [];
  for (const [name, value] of Object.entries(request)) {
    if (value === undefined) continue;
    const input = INPUTS[name];
    if (input === undefined) {
      throw new GenerationError("INVALID_ARGUMENT", `there is no input ${name}`);
    }
    if (!input.fits(value)) {
      throw new GenerationError("INVALID_ARGUMENT", `${name} must be ${input.takes}, not ${value}`);
    }
    inputs.push({ name, datatype: input.datatype, shape: [1] });
    raw_input_contents.push(raw(input.datatype, value));
  }
  return { model_name: MODEL, inputs, raw_input_contents };
}

/**
 * The event in a response; undefined if it has none (the stream's empty end). A clip that brings no
 * frames is made of the `parts` that came before it. Throws Error.
 */
export function readEvent(
  response: ModelInferResponse__Output,
  parts: Part[] = [],
): Event | undefined {
  const place = (name: string) => response.outputs.findIndex((output) => output.name === name);
  const content = (name: string) => response.raw_output_contents[place(name)];
  const event = content("event");
  const frames = content("frames");
  if (event === undefined) return undefined;
  const said = JSON.parse(event.toString("utf8", 4));
  if (said.type === "progress") {
    require(said, ["step", "num_inference_steps"]);
    return said;
  }
  if (said.type === "part") {
    require(said, ["first_frame", "num_frames", "fps"]);
    const shape = response.outputs[place("frames")]?.shape as unknown as Shape;
    return { ...said, frames: sized(frames, shape), shape };
  }
  const record = said.record ?? {};
  require(record, [
    "prompt",
    "policy",
    "revision",
    "base",
    "base_digest",
    "seed",
    "scheduler",
    "num_inference_steps",
    "guidance_scale",
    "num_frames",
    "height",
    "width",
    "fps",
    "started_at",
  ]);
  const shape: Shape = [record.num_frames, record.height, record.width, 3];
  const whole = frames ?? Buffer.concat(parts.map((part) => part.frames));
  return { type: "result", frames: sized(whole, shape), shape, record };
}

function sized(frames: Buffer | undefined, shape: Shape = [0, 0, 0, 3]): Buffer {
  if (frames?.length !== shape.reduce<number>((product, size) => product * size, 1)) {
    throw new Error(`the frames do not have the shape [${shape.join(", ")}]`);
  }
  return frames;
}

/** A datatype of KServe's, and which values of it fit. */
interface Input {
  datatype: string;
  takes: string;
  fits(value: unknown): boolean;
}

function text(datatype: string): Input {
  return { datatype, takes: "a text", fits: (value) => typeof value === "string" };
}

function flag(datatype: string): Input {
  return { datatype, takes: "true or false", fits: (value) => typeof value === "boolean" };
}

function real(datatype: string, least: number, most: number): Input {
  const fits = (value: unknown) => Number.isFinite(value) && within(least, most, value);
  return { datatype, takes: `a number from ${least} to ${most}`, fits };
}

function whole(datatype: string, least: number, most: number): Input {
  const fits = (value: unknown) => Number.isInteger(value) && within(least, most, value);
  return { datatype, takes: `a whole number from ${least} to ${most}`, fits };
}

function within(least: number, most: number, value: unknown): boolean {
  return Number(value) >= least && Number(value) <= most;
}

function raw(datatype: string, value: string | number | boolean): Buffer {
  if (typeof value === "boolean") return Buffer.of(Number(value));
  const data = Buffer.alloc(8);
  if (typeof value === "string") {
    const length = data.subarray(0, data.writeUInt32LE(Buffer.byteLength(value)));
    return Buffer.concat([length, Buffer.from(value)]);
  }
  if (datatype === "INT64") return data.subarray(0, data.writeBigInt64LE(BigInt(value)));
  const end = datatype === "INT32" ? data.writeInt32LE(value) : data.writeFloatLE(value);
  return data.subarray(0, end);
}

function require(content: Record<string, unknown>, fields: string[]): void {
  const missing = fields.find((field) => content[field] === undefined);
  if (missing !== undefined) throw new Error(`the field ${missing} is missing`);
}
