/** What the server sent, bounded, for one reader who may never come. */
export class Inbox {
  readonly stream: ReadableStream<Uint8Array>;
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  #discardedBytes = 0;

  /** @param bufferBytes What may wait for the reader. */
  constructor(bufferBytes: number) {
    this.stream = new ReadableStream<Uint8Array>({
      start: (controller) => void (this.#controller = controller),
      cancel: () => void (this.#controller = undefined),
    }, { highWaterMark: bufferBytes, size: (chunk) => chunk.length });
  }

  /** What came while the buffer was full. */
  get discardedBytes(): number {
    return this.#discardedBytes;
  }

  /** Takes what the server sent, where there is room. */
  offer(chunk: Uint8Array): void {
    const room = this.#controller?.desiredSize ?? 0;
    if (room >= chunk.length) this.#controller?.enqueue(chunk);
    else this.#discardedBytes += chunk.length;
  }

  close(): void {
    this.#controller?.close();
    this.#controller = undefined;
  }
}
