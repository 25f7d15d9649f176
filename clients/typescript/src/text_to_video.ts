// Generated from clients/contract/text_to_video.json by `make stubs`; do not edit.

export const MODEL = "text_to_video";

/** What to generate; what is left out is the server's choice, and the record says what it chose. */
export interface GenerateRequest {
  /** UTF-8; not empty; at most as many tokens as the encoder takes. Longer prompts are refused, never cut. */
  prompt: string;
  /** What guidance moves away from. */
  negative_prompt?: string;
  /** The concept policy (default: the repository's or the tenant's default policy; refused if it has none). */
  policy?: string;
  /** One of the policy's eligible revisions (default: the active one). */
  revision?: number;
  /** Equal requests with equal seeds give equal bytes (default: drawn, and recorded). */
  seed?: number;
  /** Steps of the scheduler (default: the base's). */
  num_inference_steps?: number;
  /** Classifier-free guidance; 1 or less means none (default: the base's). */
  guidance_scale?: number;
  /** Length of the clip (default: the base's). */
  num_frames?: number;
  /** In pixels (default: the base's). */
  height?: number;
  /** In pixels (default: the base's). */
  width?: number;
  /** A diffusers class name, such as `DPMSolverMultistepScheduler`, that the server has (default: the base's). */
  scheduler?: string;
  /** Forecast the video model's predictions in some steps instead of evaluating it; acceleration.md says what it saves and costs. */
  acceleration?: "none" | "balanced" | "fast";
}

export type Datatype = "BYTES" | "INT64" | "INT32" | "FP32";

/** Every input of the model, each a tensor of shape [1]. */
export const INPUTS: Readonly<Record<keyof GenerateRequest, Datatype>> = {
  prompt: "BYTES",
  negative_prompt: "BYTES",
  policy: "BYTES",
  revision: "INT64",
  seed: "INT64",
  num_inference_steps: "INT32",
  guidance_scale: "FP32",
  num_frames: "INT32",
  height: "INT32",
  width: "INT32",
  scheduler: "BYTES",
  acceleration: "BYTES",
};

/** What made a clip; a newer server may send more fields, and they are kept. */
export interface GenerationRecord {
  /** As requested. */
  prompt: string;
  /** As requested. */
  negative_prompt?: string;
  /** The concept policy that was applied. */
  policy: string;
  /** Its revision. */
  revision: number;
  /** Of the text encoder's weights; null if the repository does not say. */
  encoder_digest?: string | null;
  /** Name of the base. */
  base: string;
  /** Of the base's files. */
  base_digest: string;
  /** As requested, or as drawn. */
  seed: number;
  /** The sampler. */
  scheduler: string;
  /** As requested. */
  acceleration?: string;
  /** Steps of the scheduler. */
  num_inference_steps: number;
  /** Classifier-free guidance. */
  guidance_scale: number;
  /** Length of the clip. */
  num_frames: number;
  /** In pixels. */
  height: number;
  /** In pixels. */
  width: number;
  /** Frames per second to play it at. */
  fps: number;
  /** UTC, ISO 8601. */
  started_at: string;
  /** Seconds per stage, by its name. */
  seconds?: Record<string, number>;
  /** Digests of the exported graphs, by their name. */
  graphs?: Record<string, string>;
}

/** Fields without which an answer is not a record. */
export const RECORD_FIELDS: readonly (keyof GenerationRecord)[] = [
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
];

/** Sent after every evaluation of the video model. */
export interface Progress {
  type: "progress";
  /** Evaluations done, from 1. */
  step: number;
  /** Evaluations in all; with an acceleration fewer than the request's steps, which the record keeps. */
  num_inference_steps: number;
}

/** The last event: frames are UINT8 [num_frames, height, width, 3], RGB, one after the other. */
export interface Clip {
  type: "result";
  frames: Uint8Array;
  shape: [num_frames: number, height: number, width: number, channels: 3];
  record: GenerationRecord;
}

export type Event = Progress | Clip;

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
  /** The caller's queue or the gateway's is full; `retry-after-ms` (HTTP: `Retry-After`) says when to ask again. */
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
