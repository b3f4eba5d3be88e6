import { QueueFileError } from "../base/errors.ts";
import type { Clock } from "../base/ports.ts";
import type { StoreFailure } from "../base/queue_stats.ts";
import type { CommitterEvents } from "./commit/committer.ts";
import type { DeadPackets } from "./options.ts";
import type { PacketReader } from "./read/packet_reader.ts";
import type { QueueTime } from "./read/queue_time.ts";
import type { Edit, EditResult, TransactionResult } from "./store/contract.ts";
import type { DroppedPackets } from "./store/types.ts";

export class Listeners<Args extends unknown[]> {
  readonly #callbacks = new Set<(...args: Args) => void>();

  /** Adds one. Returns its removal. */
  add(callback: (...args: Args) => void): () => void {
    // Somebody may come twice with the same one.
    const one = (...args: Args) => callback(...args);
    this.#callbacks.add(one);
    return () => void this.#callbacks.delete(one);
  }

  /**
   * Calls all. One that throws must not look like a failed commit, nor keep the
   * others from hearing: its error is reported as uncaught.
   */
  call(...args: Args): void {
    // Who comes meanwhile is called the next time.
    for (const callback of [...this.#callbacks]) {
      try {
        if (this.#callbacks.has(callback)) callback(...args);
      } catch (error) {
        reportError(error);
      }
    }
  }
}

/** The callbacks of a queue's users: what each hears of is said where it is subscribed. */
export class QueueListeners {
  readonly packets: Listeners<[]> = new Listeners();
  readonly closed: Listeners<[]> = new Listeners();
  readonly dropped: Listeners<[DroppedPackets]> = new Listeners();
  readonly dead: Listeners<[DeadPackets]> = new Listeners();
  readonly polls: Listeners<[failure: unknown]> = new Listeners();
  readonly storing: Listeners<[failure: StoreFailure | undefined]> = new Listeners();
  readonly refused: Listeners<[error: unknown]> = new Listeners();
}

interface Parts {
  readonly reader: PacketReader;
  readonly time: QueueTime;
  readonly listeners: QueueListeners;
  readonly storing: Storing;
  /** Tells the sender, which may be another process, of new packets. */
  readonly ring: () => void;
}

/** What follows from a transaction, before those who wait for it hear of it. */
export function committerEvents(
  { reader, time, listeners, storing, ring }: Parts,
): CommitterEvents {
  const transacted = ({ setAside, dropped }: TransactionResult): void => {
    for (const { packets, bytes, ids } of setAside) {
      reader.excised(ids);
      listeners.dead.call({ packets, bytes, reason: "damaged", ids });
    }
    if (dropped === undefined) return;
    reader.removed(dropped.throughId);
    listeners.dropped.call(dropped);
  };
  const edited = (edit: Edit, { packets, bytes, ids }: EditResult): void => {
    if (edit.kind === "bury") {
      for (const range of edit.ranges) reader.excised(range);
      if (packets === 0) return;
      const firstId = Math.min(...edit.ranges.map((range) => range.firstId));
      const lastId = Math.max(...edit.ranges.map((range) => range.lastId));
      const { reason } = edit;
      listeners.dead.call({ packets, bytes, reason, ids: { firstId, lastId } });
    } else if (edit.kind === "remove-packets") {
      reader.excised(edit.range);
    } else if (edit.kind === "requeue" && ids !== undefined) {
      reader.othersStored();
      ring();
    }
  };
  return {
    moment: () => time.moment(),
    isTimeToBeKept: () => time.isToBeNoted,
    handedOut: (...range) => reader.handedOut(...range),
    knows: (state) => {
      time.adopt(state);
      reader.knows(state);
    },
    committed: (result, throughId) => {
      reader.stored(result.batches);
      reader.removed(throughId);
      transacted(result);
      if (result.batches.length > 0) ring();
    },
    edited: (edit, result) => {
      // First what died, then what had to go because of that.
      edited(edit, result);
      transacted(result);
    },
    adopted: () => reader.othersStored(),
    grown: () => {
      storing.stored();
      listeners.packets.call();
    },
    refused: (error) => {
      storing.refused(error);
      listeners.refused.call(error);
    },
  };
}

/** Knows since when enqueues of this process fail, and why. */
export class Storing {
  readonly #clock: Clock;
  readonly #onChange: (failure: StoreFailure | undefined) => void;
  /** Why nothing can be stored; `undefined`: it can, as far as is known. */
  failure: StoreFailure | undefined;
  #lastError: unknown;

  /** @param onChange Told of each failure, and with `undefined` once packets are stored again. */
  constructor(clock: Clock, onChange: (failure: StoreFailure | undefined) => void) {
    this.#clock = clock;
    this.#onChange = onChange;
  }

  refused(error: unknown): void {
    // Those that shared a commit share its error.
    if (!(error instanceof QueueFileError) || error === this.#lastError) return;
    this.#lastError = error;
    const { reason, message: words } = error;
    const sinceMs = this.failure?.sinceMs ?? this.#clock.wallMs();
    this.failure = { reason, words, sinceMs };
    this.#onChange(this.failure);
  }

  /** Something was stored, by whichever process. */
  stored(): void {
    if (this.failure === undefined) return;
    this.failure = this.#lastError = undefined;
    this.#onChange(undefined);
  }
}
