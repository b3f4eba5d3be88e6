/**
 * Writes that go on until everything was taken: a pipe, a socket and a disk may take
 * less than they are given. One that takes nothing and calls that a success would be
 * tried for ever, which a sandbox's answer can do (seccomp with errno 0).
 *
 * @module
 */

/**
 * Writes all of it.
 *
 * @param sink Takes some of the bytes and returns how many.
 * @param bytes What to write.
 * @throws {Error} The sink took nothing.
 */
export async function writeAll(
  sink: { write(bytes: Uint8Array): Promise<number> },
  bytes: Uint8Array,
): Promise<void> {
  for (let at = 0; at < bytes.length;) at += taken(await sink.write(bytes.subarray(at)));
}

/**
 * The same at once.
 *
 * @param sink Takes some of the bytes and returns how many.
 * @param bytes What to write.
 * @throws {Error} The sink took nothing.
 */
export function writeAllSync(
  sink: { writeSync(bytes: Uint8Array): number },
  bytes: Uint8Array,
): void {
  for (let at = 0; at < bytes.length;) at += taken(sink.writeSync(bytes.subarray(at)));
}

function taken(byteCount: number): number {
  if (byteCount > 0) return byteCount;
  throw new Error("a write took nothing, and failed with nothing");
}
