import type {
  CommitRequest,
  CommitResult,
  EditRequest,
  EditResult,
  FileSpace,
  QueueStore,
  StoreReads,
  StoreState,
} from "../queue/store/contract.ts";
import type { SqliteStore } from "../queue/store/sqlite_store.ts";
import { readsBehind } from "../queue/synced_store.ts";
import type { KnownCounts } from "./spool_bell.ts";
import type { OpenQueue, SpoolFile } from "./spool_file.ts";
import { checkSpare } from "./spool_tenure.ts";

/** A queue in a spool: its transactions are shared with those of other queues. */
export class SpoolStore implements QueueStore, OpenQueue {
  readonly path: string;
  readonly reads: StoreReads;
  readonly #file: SpoolFile;
  readonly #queue: number;
  readonly #store: SqliteStore;
  #known: KnownCounts = { lastId: 0, deadPackets: 0 };
  #changesByOthers = 0;

  constructor(file: SpoolFile, queue: number, store: SqliteStore) {
    this.path = store.path;
    this.#file = file;
    this.#queue = queue;
    this.#store = store;
    const reads = readsBehind(file.log, store);
    this.reads = {
      ...reads,
      state: async () => this.#know(await reads.state()),
      // What this process does elsewhere counts, too.
      dataVersion: async () => await reads.dataVersion() + this.#changesByOthers,
    };
    file.add(queue, this);
  }

  get known(): KnownCounts {
    return this.#known;
  }

  changedByAnother(): void {
    this.#changesByOthers++;
  }

  async commit(request: CommitRequest): Promise<CommitResult> {
    if (request.units.length > 0) checkSpare(this.#file.path);
    let bytes = 0;
    for (const unit of request.units) bytes += unit.bytes;
    const result = await this.#file.group.run({
      owner: this,
      run: () => this.#store.commit(request),
      makesRoom: request.units.length === 0,
      bytes,
      // Nobody waits for a removal alone: what a power cut takes of it is sent once more.
      isAwaited: ({ batches }) => batches.length > 0,
    });
    this.#changed(result.state);
    return result;
  }

  async edit(request: EditRequest): Promise<EditResult> {
    const result = await this.#file.group.run({
      owner: this,
      run: () => this.#store.edit(request),
      makesRoom: request.edit.kind !== "requeue",
      bytes: 0,
      isAwaited: () => true,
    });
    this.#changed(result.state);
    return result;
  }

  #changed(state: StoreState): void {
    this.#know(state);
    this.#file.changed(this.#queue, this);
  }

  #know(state: StoreState): StoreState {
    const { lastId, deadPackets } = state;
    this.#known = { lastId: Math.max(this.#known.lastId, lastId), deadPackets };
    return state;
  }

  space(): FileSpace {
    return this.#store.space();
  }

  vacuumStep(pages: number): FileSpace {
    return this.#file.vacuumStep(this, pages);
  }

  checkpoint(): boolean {
    return this.#store.checkpoint();
  }

  /** Closes the queue, and the spool with its last one. */
  close(): Promise<void> {
    return this.#file.close(this.#queue, this);
  }
}
