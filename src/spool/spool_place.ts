import type { QueueFileError } from "../base/errors.ts";
import type { Allocate, Clock, FileWatch } from "../base/ports.ts";
import type { Doorbell, Ringer } from "../queue/doorbell.ts";
import { SURVIVED } from "../queue/file_place.ts";
import { GuardedStore, type SpareSpace } from "../queue/guarded_store.ts";
import { lockPathOf } from "../queue/lock_file.ts";
import type { QueueOptions } from "../queue/options.ts";
import type { QueuePlace } from "../queue/place.ts";
import type { Durability } from "../queue/store/types.ts";
import type { Tenure } from "../queue/tenure.ts";
import { SpoolFile } from "./spool_file.ts";
import { SpoolStore } from "./spool_store.ts";
import { takeTenure } from "./spool_tenure.ts";

export class SpoolPlace implements QueuePlace {
  readonly lockPath: string;
  readonly store: GuardedStore;
  readonly ringer: Ringer;
  readonly survives: string;
  readonly durability: Durability;
  readonly #file: SpoolFile;
  readonly #queue: number;
  readonly #spoolStore: SpoolStore;

  private constructor(
    file: SpoolFile,
    queue: number,
    store: SpoolStore,
    { clock, durability }: Required<QueueOptions>,
  ) {
    this.lockPath = lockPathOf(file.path);
    this.#file = file;
    this.#queue = queue;
    this.#spoolStore = store;
    this.store = new GuardedStore(store, file.files, clock, () => file.prepare());
    this.ringer = file.ringer;
    this.survives = SURVIVED[durability];
    this.durability = durability;
  }

  /**
   * Opens a queue of a spool; makes either where there is none.
   *
   * @throws {QueueFileError}
   * @throws {Deno.errors.NotCapable} With the flags to add.
   */
  static async open(
    path: string,
    name: string,
    options: Required<QueueOptions>,
  ): Promise<SpoolPlace> {
    const file = await SpoolFile.open(path, options);
    try {
      const { queue, store } = await file.storeOf(name);
      return new SpoolPlace(file, queue, new SpoolStore(file, queue, store), options);
    } catch (error) {
      await file.release();
      throw error;
    }
  }

  misplaced(): QueueFileError | undefined {
    return this.store.misplaced();
  }

  /** Listens with all other queues of the spool. */
  listen(onRing: (rung: boolean) => void, watch?: FileWatch): Doorbell {
    const store = this.#spoolStore;
    return this.#file.bell.listen(
      { queue: this.#queue, onRing, known: () => store.known },
      watch,
    );
  }

  /** The spool's own bell finds out for all of its queues. */
  mayHaveNews(): boolean {
    return false;
  }

  /** Takes the lock of the spool, and this queue in it; nobody waits for either. */
  async takeTenure(clock: Clock, _signal?: AbortSignal, allocate?: Allocate): Promise<Tenure> {
    const sent = { queue: this.#queue, address: this.store.path };
    return await takeTenure(this.#file.path, sent, clock, allocate);
  }

  useSpareSpace(spare: SpareSpace | undefined): void {
    this.store.useSpareSpace(spare);
  }

  /** A file answers by itself. */
  closing(): void {}
}
