/**
 * Where a queue's packets lie, and what that place can do besides storing. A queue is the
 * same above each.
 */

import type { ClusterStats } from "../base/cluster_stats.ts";
import type { QueueFileError } from "../base/errors.ts";
import type { Allocate, Clock, FileWatch } from "../base/ports.ts";
import type { Doorbell, Ringer } from "./doorbell.ts";
import type { SpareSpace } from "./guarded_store.ts";
import type { FileStore, QueueStore } from "./store/contract.ts";
import type { Durability } from "./store/types.ts";
import type { Tenure } from "./tenure.ts";

/** A file as those to whom it is forwarded know it. */
export type EdgeFile = Pick<FileStore, "edgeId" | "setEdgeId" | "enqueuedAtMs" | "sync">;

export interface QueuePlace {
  /** A file that a sender locks and writes; `undefined`: it needs none. */
  readonly lockPath: string | undefined;
  readonly store: QueueStore;
  /** What can be forwarded; left out where the place is no file. */
  readonly edge?: EdgeFile;
  /** What a commit of this process survives; left out where the place is no file. */
  readonly durability?: Durability;
  /**
   * Whether its packets expire by a time of its own; then what it says of them goes by the
   * monotonic clock. Left out: by that of each process, see `queue_time.ts`.
   */
  readonly keepsTime?: boolean;
  readonly ringer: Ringer;
  /** What an acknowledged packet survives, as the end of a sentence. */
  readonly survives: string;
  /** What only a place in a database has to say. */
  cluster?(): ClusterStats;
  /** Why nothing may be stored there any more; `undefined`: nothing is wrong. */
  misplaced(): QueueFileError | undefined;
  /**
   * Calls back when others may have stored packets; with false where nobody has said so.
   */
  listen(onRing: (rung: boolean) => void, watch?: FileWatch): Doorbell;
  /**
   * Whether anybody may have stored something since it was asked last, by the easiest sign of
   * it; left out where there is none.
   */
  mayHaveNews?(): boolean;
  takeTenure(clock: Clock, signal?: AbortSignal, allocate?: Allocate): Promise<Tenure>;
  /**
   * What its sender is given up to an id is sent from now on; left out where nothing has to be
   * done before.
   *
   * @throws {FencedError} It may not be.
   */
  beforeHandingOut?(throughId: number): Promise<void>;
  /** Ids up to this one have been on a wire; left out where that is kept with the packets alone. */
  rememberSent?(id: number): void;
  /** See `SendingSide.useSpareSpace`; `undefined`: there is none any more. */
  useSpareSpace(spare: SpareSpace | undefined): void;
  /** The queue is being closed: no call waits for ever any more. */
  closing(): void;
}
