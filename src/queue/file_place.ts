import type { QueueFileError } from "../base/errors.ts";
import type { Allocate, Clock, FileWatch } from "../base/ports.ts";
import { type Doorbell, listenForRings, lockFileRinger, type Ringer } from "./doorbell.ts";
import type { GuardedStore, SpareSpace } from "./guarded_store.ts";
import { lockPathOf } from "./lock_file.ts";
import { LogLook } from "./log_look.ts";
import { type OpenedStore, openStore } from "./open_store.ts";
import type { QueueOptions } from "./options.ts";
import type { EdgeFile, QueuePlace } from "./place.ts";
import { SenderLock } from "./sender_lock.ts";
import { mayLookAt } from "./sqlite/file_identity.ts";
import type { Durability } from "./store/types.ts";

/** What a commit survives, as the end of a sentence. */
export const SURVIVED: Readonly<Record<Durability, string>> = {
  "power-loss": "a power cut of this machine, but not the loss of its disk",
  "process-crash": "the end of this process, but not of the machine",
};

export class FilePlace implements QueuePlace {
  readonly lockPath: string;
  readonly store: GuardedStore;
  readonly edge: EdgeFile;
  readonly ringer: Ringer;
  readonly survives: string;
  readonly durability: Durability;
  readonly #clock: Clock;
  /** While its sender listens; left out where this process may not look at the log. */
  #logLook: LogLook | undefined;

  private constructor(
    { store, edge }: OpenedStore,
    { clock, durability }: Required<QueueOptions>,
  ) {
    this.lockPath = lockPathOf(store.path);
    this.store = store;
    this.edge = edge;
    this.ringer = lockFileRinger(store.path, clock);
    this.survives = SURVIVED[durability];
    this.durability = durability;
    this.#clock = clock;
  }

  /**
   * Opens the file; makes it where there is none.
   *
   * @throws {QueueFileError}
   * @throws {Deno.errors.NotCapable} With the flags to add.
   */
  static async open(path: string, options: Required<QueueOptions>): Promise<FilePlace> {
    const opened = await openStore(path, options);
    try {
      return new FilePlace(opened, options);
    } catch (error) {
      await opened.store.close();
      throw error;
    }
  }

  misplaced(): QueueFileError | undefined {
    return this.store.misplaced();
  }

  /** Listens on the lock file, and looks at SQLite's log. */
  listen(onRing: (rung: boolean) => void, watch?: FileWatch): Doorbell {
    const logPath = `${this.store.path}-wal`;
    const look = mayLookAt(logPath) ? new LogLook(logPath, this.#clock, watch) : undefined;
    this.#logLook = look;
    const doorbell = listenForRings(this.lockPath, onRing, this.#clock, watch);
    return {
      ...doorbell,
      stop: async () => {
        await Promise.all([look?.stop(), doorbell.stop()]);
      },
    };
  }

  mayHaveNews(): boolean {
    return this.#logLook?.mayHaveNews() ?? true;
  }

  /** Takes the lock; nobody waits for it. */
  takeTenure(clock: Clock, _signal?: AbortSignal, allocate?: Allocate): Promise<SenderLock> {
    return SenderLock.acquire(this.store.path, clock, allocate);
  }

  useSpareSpace(spare: SpareSpace | undefined): void {
    this.store.useSpareSpace(spare);
  }

  /** A file answers by itself. */
  closing(): void {}
}
