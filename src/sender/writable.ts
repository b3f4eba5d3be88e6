/** What may wait for its commit before the producer is held back. */
const WINDOW_BYTES = 1024 * 1024;

/** A stream that stores each chunk as one packet; where that is rejected, it errors. */
export function writableInto(
  enqueue: (packet: Uint8Array) => Promise<unknown>,
): WritableStream<Uint8Array | string> {
  let waitingPackets = 0;
  let waitingBytes = 0;
  let failure: { readonly error: unknown } | undefined;
  let wake = () => {};
  const done = (bytes: number) => {
    waitingPackets--;
    waitingBytes -= bytes;
    wake();
  };
  const until = async (enough: () => boolean) => {
    while (!enough() && failure === undefined) {
      await new Promise<void>((resolve) => wake = resolve);
    }
    if (failure !== undefined) throw failure.error;
  };
  const encoder = new TextEncoder();
  return new WritableStream<Uint8Array | string>({
    write: (chunk) => {
      const packet = typeof chunk === "string" ? encoder.encode(chunk) : chunk;
      const bytes = packet.length;
      waitingPackets++;
      waitingBytes += bytes;
      enqueue(packet).then(() => done(bytes), (error) => {
        failure ??= { error };
        done(bytes);
      });
      return until(() => waitingBytes <= WINDOW_BYTES);
    },
    close: () => until(() => waitingPackets === 0),
  });
}
