import type { LogSync } from "../queue/log_sync.ts";
import type {
  CommitRequest,
  CommitResult,
  EditRequest,
  EditResult,
  FileSpace,
  QueueStore,
  ReadResult,
  StoreState,
} from "../queue/store/contract.ts";
import type { SqliteStore } from "../queue/store/sqlite_store.ts";
import type { DeadLetter, Due } from "../queue/store/types.ts";
import type { KnownCounts } from "./spool_bell.ts";
import type { OpenQueue, SpoolFile } from "./spool_file.ts";
import { checkSpare } from "./spool_tenure.ts";

/** A queue in a spool: its transactions are shared with those of other queues. */
export class SpoolStore implements QueueStore, OpenQueue {
  readonly path: string;
  readonly #file: SpoolFile;
  readonly #queue: number;
  readonly #store: SqliteStore;
  readonly #log: LogSync;
  #known: KnownCounts = { lastId: 0, deadPackets: 0 };
  #changesByOthers = 0;

  constructor(file: SpoolFile, queue: number, store: SqliteStore) {
    this.path = store.path;
    this.#file = file;
    this.#queue = queue;
    this.#store = store;
    this.#log = file.log;
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

  async state(): Promise<StoreState> {
    return this.#know(await this.#log.read(() => this.#store.state()));
  }

  /** See {@linkcode SqliteStore.dataVersion}; what this process does elsewhere counts, too. */
  async dataVersion(): Promise<number> {
    return await this.#log.read(() => this.#store.dataVersion()) + this.#changesByOthers;
  }

  due(afterId: number, nowMs: number, order: "by-id" | "by-time"): Due | Promise<Due> {
    return this.#log.read(() => this.#store.due(afterId, nowMs, order));
  }

  deadLetters(afterId: number, maxBytes: number): DeadLetter[] | Promise<DeadLetter[]> {
    return this.#log.read(() => this.#store.deadLetters(afterId, maxBytes));
  }

  read(afterId: number, maxBytes: number): ReadResult | Promise<ReadResult> {
    return this.#log.read(() => this.#store.read(afterId, maxBytes));
  }

  space(): FileSpace {
    return this.#store.space();
  }

  vacuumStep(pages: number): FileSpace {
    return this.#file.vacuumStep(this, pages);
  }

  checkpoint(): void {
    this.#store.checkpoint();
  }

  /** Closes the queue, and the spool with its last one. */
  close(): Promise<void> {
    return this.#file.close(this.#queue, this);
  }
}
