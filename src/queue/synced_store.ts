/**
 * A store that tells of a commit once the disk has it, wherever its log is synced.
 *
 * @module
 */

import type { Clock } from "../base/ports.ts";
import { LogSync } from "./log_sync.ts";
import type { SyncIn } from "./options.ts";
import type {
  CommitRequest,
  CommitResult,
  EditRequest,
  EditResult,
  FileSpace,
  FileStore,
  ReadResult,
  StoreState,
} from "./store/contract.ts";
import type { SqliteStore } from "./store/sqlite_store.ts";
import type { DeadLetter, Due } from "./store/types.ts";

/** A queue's file whose log is synced in the loop, or in threads of the runtime. */
export class SyncedStore implements FileStore {
  readonly path: string;
  readonly #store: SqliteStore;
  readonly #log: LogSync;

  /**
   * Takes a store over.
   *
   * @param store The file, open.
   * @param syncIn Where its log is synced; `"loop"` for one that syncs nothing.
   * @throws {Deno.errors.NotCapable} `"threads"` were asked for, and need a flag.
   * @throws {QueueFileError} They were, and the log cannot be opened.
   */
  constructor(store: SqliteStore, syncIn: SyncIn, clock: Clock) {
    this.path = store.path;
    this.#store = store;
    this.#log = new LogSync({ path: store.path, file: store.file, syncIn, clock });
  }

  /** See {@linkcode SqliteStore.commit}; a removal alone is synced later. */
  commit(request: CommitRequest): CommitResult | Promise<CommitResult> {
    this.#log.begin();
    const result = this.#store.commit(request);
    const stores = result.batches.length > 0;
    if (this.#log.isInThreads) {
      if (stores) return this.#log.synced(result, bytesOf(result));
      this.#log.syncLater();
    } else if (stores) {
      this.#log.take(this.#store.lastCommitMs, bytesOf(result));
    }
    return result;
  }

  /** See {@linkcode SqliteStore.edit}. */
  edit(request: EditRequest): EditResult | Promise<EditResult> {
    this.#log.begin();
    const result = this.#store.edit(request);
    return this.#log.isInThreads ? this.#log.synced(result) : result;
  }

  /** See {@linkcode SqliteStore.setEdgeId}. */
  setEdgeId(id: string): void | Promise<void> {
    this.#log.begin();
    this.#store.setEdgeId(id);
    if (this.#log.isInThreads) return this.#log.synced(undefined);
  }

  /** See {@linkcode FileStore.sync}. */
  sync(): Promise<void> {
    return this.#log.sync();
  }

  /** See {@linkcode SqliteStore.due}. */
  due(afterId: number, nowMs: number, order: "by-id" | "by-time"): Due | Promise<Due> {
    return this.#log.read(() => this.#store.due(afterId, nowMs, order));
  }

  /** See {@linkcode SqliteStore.deadLetters}. */
  deadLetters(afterId: number, maxBytes: number): DeadLetter[] | Promise<DeadLetter[]> {
    return this.#log.read(() => this.#store.deadLetters(afterId, maxBytes));
  }

  /** See {@linkcode SqliteStore.read}. */
  read(afterId: number, maxBytes: number): ReadResult | Promise<ReadResult> {
    return this.#log.read(() => this.#store.read(afterId, maxBytes));
  }

  /** See {@linkcode SqliteStore.state}. */
  state(): StoreState | Promise<StoreState> {
    return this.#log.read(() => this.#store.state());
  }

  /** See {@linkcode SqliteStore.edgeId}. */
  edgeId(): string | undefined | Promise<string | undefined> {
    return this.#log.read(() => this.#store.edgeId());
  }

  /** See {@linkcode SqliteStore.enqueuedAtMs}. */
  enqueuedAtMs(id: number): number | undefined | Promise<number | undefined> {
    return this.#log.read(() => this.#store.enqueuedAtMs(id));
  }

  /** See {@linkcode SqliteStore.dataVersion}. */
  dataVersion(): number | Promise<number> {
    return this.#log.read(() => this.#store.dataVersion());
  }

  /** See {@linkcode SqliteStore.space}. */
  space(): FileSpace | Promise<FileSpace> {
    return this.#store.space();
  }

  /** See {@linkcode SqliteStore.vacuumStep}. */
  vacuumStep(pages: number): FileSpace | Promise<FileSpace> {
    return this.#store.vacuumStep(pages);
  }

  /** See {@linkcode SqliteStore.checkpoint}. */
  checkpoint(): void {
    this.#store.checkpoint();
  }

  /** See {@linkcode SqliteStore.close}. */
  async close(): Promise<void> {
    await this.#log.close();
    this.#store.close();
  }
}

function bytesOf({ batches }: CommitResult): number {
  return batches.reduce((bytes, batch) => bytes + batch.bytes.length, 0);
}
