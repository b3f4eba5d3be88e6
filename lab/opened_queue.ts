import type { QueueOptions } from "../src/queue/options.ts";
import { OutboundQueue } from "../src/queue/queue.ts";
import { formatSpoolAddress, isSpoolAddress, parseSpoolAddress } from "../src/spool/address.ts";
import { spoolQueue } from "../src/spool/spool.ts";

/** Where a queue that is put to the test lies: in a file of its own, or in a spool. */
export type Place = "file" | "spool";

/**
 * Opens the queue at a path.
 *
 * @param path The file.
 * @param place What it is.
 * @param options Those of the queue.
 */
export function openQueueAt(
  path: string,
  place: Place,
  options: QueueOptions = {},
): Promise<OutboundQueue> {
  return place === "spool"
    ? spoolQueue(path, "tested", options)
    : OutboundQueue.open(path, options);
}

/** The same as `--queue` takes it. */
export function addressOf(path: string, place: Place): string {
  return place === "spool" ? formatSpoolAddress({ file: path, name: "tested" }) : path;
}

/** Opens what `--queue` takes. */
export function openAddress(queue: string, options: QueueOptions = {}): Promise<OutboundQueue> {
  return isSpoolAddress(queue)
    ? openQueueAt(parseSpoolAddress(queue).file, "spool", options)
    : openQueueAt(queue, "file", options);
}

/** Another queue of a spool, which stores whenever the tested one does; nobody sends from it. */
export class Neighbour implements AsyncDisposable {
  readonly #queue: OutboundQueue | undefined;

  private constructor(queue: OutboundQueue | undefined) {
    this.#queue = queue;
  }

  /** Opens it; beside a queue in a file of its own there is none. */
  static async open(path: string, place: Place, options: QueueOptions = {}): Promise<Neighbour> {
    return new Neighbour(
      place === "spool" ? await spoolQueue(path, "neighbour", options) : undefined,
    );
  }

  /** Stores a packet; what goes wrong is its own affair. */
  store(): void {
    this.#queue?.enqueue("neighbour").catch(() => {});
  }

  /** Closes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#queue?.close();
  }
}
