import type { Clock, StoredPacket } from "../base/ports.ts";
import { within } from "../base/waits.ts";
import type { OldestPacket } from "./monitor.ts";

const MAX_HEAD_BYTES = 1024;
/** Whoever looks is told without it where it takes longer. */
const LIMIT_MS = 1000;

/**
 * The first bytes of the packet that is next, for the page. It is read once for all who look, and
 * one reading is under way at most: a database may not answer for a while.
 */
export class OldestHead {
  readonly #read: (afterId: number) => Promise<readonly StoredPacket[]>;
  readonly #clock: Clock;
  /** What was read, and for which id. */
  #known: { readonly forId: number; readonly shown: Partial<OldestPacket> } | undefined;
  #reading: Promise<void> | undefined;

  /**
   * @param read Reads the packets that follow an id, for anybody. Not `readBatches`, which is the
   *   sender's.
   * @param clock Time.
   */
  constructor(read: (afterId: number) => Promise<readonly StoredPacket[]>, clock: Clock) {
    this.#read = read;
    this.#clock = clock;
  }

  /** The packet with its first bytes, where those are known within a second. */
  async shownWith(oldest: OldestPacket): Promise<OldestPacket> {
    if (this.#known?.forId !== oldest.id) {
      this.#reading ??= this.#readFor(oldest.id);
      await within(LIMIT_MS, this.#reading, this.#clock);
    }
    return this.#known?.forId === oldest.id ? { ...oldest, ...this.#known.shown } : oldest;
  }

  async #readFor(id: number): Promise<void> {
    try {
      const [packet] = await this.#read(id - 1);
      if (packet === undefined) return;
      const head = packet.payload.subarray(0, MAX_HEAD_BYTES).toBase64();
      this.#known = { forId: id, shown: { id: packet.id, bytes: packet.payload.length, head } };
    } catch {
      // The queue is closed: a report without it is better than none.
    } finally {
      this.#reading = undefined;
    }
  }
}
