// Writes a clip as an animated PNG: lossless, and every browser plays it (PNG, third edition).

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const LEAST_SIDE = 256; // viewers show a smaller picture as a stamp
const RGB_8_BIT = [8, 2, 0, 0, 0];

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** The clip as a Blob; small frames are enlarged by a whole factor, without smoothing. */
export async function animatedPng(clip, fps) {
  const factor = Math.max(1, Math.ceil(LEAST_SIDE / Math.min(clip.width, clip.height)));
  const width = clip.width * factor;
  const height = clip.height * factor;
  const parts = [
    Uint8Array.from(SIGNATURE),
    chunk("IHDR", [...u32(width), ...u32(height), ...RGB_8_BIT]),
    chunk("acTL", [...u32(clip.numFrames), ...u32(0)]),
  ];
  let sequence = 0;
  const delay = [...u16(1000), ...u16(Math.round(1000 * fps))];
  for (let index = 0; index < clip.numFrames; index++) {
    const place = [...u32(width), ...u32(height), ...u32(0), ...u32(0)];
    parts.push(chunk("fcTL", [...u32(sequence++), ...place, ...delay, 0, 0]));
    const data = await deflated(rows(clip, index, factor));
    const first = index === 0; // the first frame is the picture of a viewer that knows no others
    parts.push(first ? chunk("IDAT", data) : chunk("fdAT", joined(u32(sequence++), data)));
  }
  parts.push(chunk("IEND", []));
  return new Blob(parts, { type: "image/png" });
}

function rows(clip, index, factor) {
  const { width, height, rgb } = clip;
  const stride = 1 + width * factor * 3; // each row begins with its filter, 0: none
  const data = new Uint8Array(stride * height * factor);
  for (let y = 0; y < height; y++) {
    const row = data.subarray(y * factor * stride, (y * factor + 1) * stride);
    for (let x = 0; x < width * factor; x++) {
      const from = 3 * ((index * height + y) * width + Math.floor(x / factor));
      row.set(rgb.subarray(from, from + 3), 1 + 3 * x);
    }
    for (let k = 1; k < factor; k++) data.set(row, (y * factor + k) * stride);
  }
  return data;
}

async function deflated(data) {
  const stream = new Blob([data]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function chunk(type, content) {
  const body = joined(new TextEncoder().encode(type), content);
  let crc = 0xffffffff;
  for (const byte of body) crc = CRC[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return joined(joined(u32(content.length), body), u32((crc ^ 0xffffffff) >>> 0));
}

function joined(one, other) {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

function u32(n) {
  return [n >>> 24, (n >>> 16) & 0xff, (n >>> 8) & 0xff, n & 0xff];
}

function u16(n) {
  return [(n >>> 8) & 0xff, n & 0xff];
}
