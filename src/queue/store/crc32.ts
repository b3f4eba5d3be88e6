/**
 * The checksum of a row's bytes. That of the runtime is twenty times as fast, and brings
 * Node's streams along, which take 40 ms of CPU to load: so it is loaded where there is much to
 * check, and a process that stores a small packet does without it.
 */

/** So much is done by hand in all: it takes 50 µs. */
const BY_HAND_BYTES = 16 * 1024;
let doneBytes = 0;
let ofRuntime: ((bytes: Uint8Array, before: number) => number) | undefined;

/** What a byte adds. */
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ 0xedb88320;
  return crc;
});

/**
 * CRC-32 as zlib has it.
 *
 * @param bytes What to check.
 * @param before The checksum of what stands in front of them.
 */
export function crc32(bytes: Uint8Array, before = 0): number {
  doneBytes += bytes.length;
  if (doneBytes > BY_HAND_BYTES) ofRuntime ??= process.getBuiltinModule("node:zlib").crc32;
  if (ofRuntime !== undefined) return ofRuntime(bytes, before);
  let crc = ~before;
  for (let i = 0; i < bytes.length; i++) {
    crc = (crc >>> 8) ^ (TABLE[(crc ^ (bytes[i] ?? 0)) & 0xff] ?? 0);
  }
  return ~crc >>> 0;
}
