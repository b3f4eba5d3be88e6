/**
 * Writes that go on until everything was taken: a pipe, a socket and a disk may take less than
 * they are given. A sandbox may take nothing and call that a success (seccomp with errno 0),
 * which would be tried for ever.
 */

/** @throws {Error} The sink took nothing. */
export async function writeAll(
  sink: { write(bytes: Uint8Array): Promise<number> },
  bytes: Uint8Array,
): Promise<void> {
  for (let at = 0; at < bytes.length;) at += taken(await sink.write(bytes.subarray(at)));
}

/** @throws {Error} The sink took nothing. */
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
