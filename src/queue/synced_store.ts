/** A store that tells of a commit once the disk has it, wherever its log is synced. */

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
  StoreReads,
} from "./store/contract.ts";
import type { SqliteStore } from "./store/sqlite_store.ts";

export class SyncedStore implements FileStore {
  readonly path: string;
  readonly reads: StoreReads;
  readonly #store: SqliteStore;
  readonly #log: LogSync;

  /** @throws As the constructor of `LogSync`. */
  constructor(store: SqliteStore, syncIn: SyncIn, clock: Clock) {
    this.path = store.path;
    this.#store = store;
    this.#log = new LogSync({ file: store.file, syncIn, clock });
    this.reads = readsBehind(this.#log, store);
  }

  /** A removal alone is synced later. */
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

  edit(request: EditRequest): EditResult | Promise<EditResult> {
    this.#log.begin();
    const result = this.#store.edit(request);
    return this.#log.isInThreads ? this.#log.synced(result) : result;
  }

  setEdgeId(id: string): void | Promise<void> {
    this.#log.begin();
    this.#store.setEdgeId(id);
    if (this.#log.isInThreads) return this.#log.synced(undefined);
  }

  sync(): Promise<void> {
    return this.#log.sync();
  }

  edgeId(): string | undefined | Promise<string | undefined> {
    return this.#log.read(() => this.#store.edgeId());
  }

  enqueuedAtMs(id: number): number | undefined | Promise<number | undefined> {
    return this.#log.read(() => this.#store.enqueuedAtMs(id));
  }

  space(): FileSpace | Promise<FileSpace> {
    return this.#store.space();
  }

  vacuumStep(pages: number): FileSpace | Promise<FileSpace> {
    return this.#store.vacuumStep(pages);
  }

  checkpoint(): boolean {
    return this.#store.checkpoint();
  }

  async close(): Promise<void> {
    await this.#log.close();
    this.#store.close();
  }
}

/** A store's reads, each once no sync is under way. */
export function readsBehind(log: LogSync, store: SqliteStore): StoreReads {
  return {
    due: (...what) => log.read(() => store.due(...what)),
    deadLetters: (...what) => log.read(() => store.deadLetters(...what)),
    read: (...what) => log.read(() => store.read(...what)),
    state: () => log.read(() => store.state()),
    dataVersion: () => log.read(() => store.dataVersion()),
  };
}

function bytesOf({ batches }: CommitResult): number {
  return batches.reduce((bytes, batch) => bytes + batch.bytes.length, 0);
}
