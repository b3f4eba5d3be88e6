import { GuardedStore } from "./guarded_store.ts";
import { lockPathOf, toLockFileError } from "./lock_file.ts";
import type { QueueOptions } from "./options.ts";
import type { EdgeFile } from "./place.ts";
import { makeRoomToOpen, prepareLockFile } from "./sender_lock.ts";
import { refuseWhileSending } from "./sqlite/beside.ts";
import { mayBeFull, queueFileError, refuseLongName, toFileError } from "./sqlite/file_error.ts";
import {
  type FileIdentity,
  identityAt,
  identityOfLinkAt,
  isSameFile,
  QueueFiles,
  refuseOrphanedLog,
  refuseSecondName,
} from "./sqlite/file_identity.ts";
import { SqliteStore } from "./store/sqlite_store.ts";
import { SyncedStore } from "./synced_store.ts";

export interface OpenedStore {
  readonly store: GuardedStore;
  readonly edge: EdgeFile;
}

/**
 * @throws {QueueFileError}
 * @throws {Deno.errors.NotCapable} With the flags to add.
 */
export function openStore(
  path: string,
  { syncIn, durability, driver, clock }: Required<QueueOptions>,
): OpenedStore {
  const before = lookBeforeOpening(path);
  const nowMs = () => clock.nowMs();
  const store = openOnFullDisk(
    path,
    () => SqliteStore.open(path, { durability, driver, nowMs }),
  );
  try {
    const files = new QueueFiles(store.path, nowMs);
    refuseOther(before, store.path);
    const synced = new SyncedStore(store, durability === "power-loss" ? syncIn : "loop", clock);
    const guarded = new GuardedStore(synced, files, clock, () => prepareLockFile(store.path));
    const edge: EdgeFile = {
      edgeId: () => synced.edgeId(),
      // Without an id, nothing is ever removed by forwarding.
      setEdgeId: (id) => guarded.inReserve(() => synced.setEdgeId(id)),
      enqueuedAtMs: (id) => synced.enqueuedAtMs(id),
      sync: () => synced.sync(),
    };
    return { store: guarded, edge };
  } catch (error) {
    store.close();
    throw toFileError(error, path);
  }
}

/** Opens a file; on a full disk with a part of its reserve. */
export function openOnFullDisk<T>(path: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    if (!mayBeFull(error) || !makeRoomToOpen(path)) throw error;
    return open();
  }
}

/**
 * Which file is there, once nothing speaks against opening it or making a new one.
 *
 * @throws {QueueFileError}
 */
export function lookBeforeOpening(path: string): FileIdentity | undefined {
  try {
    const identity = identityAt(path);
    refuseLongName(identity === undefined ? path : Deno.realPathSync(path));
    if (identity === undefined) refuseSender(path);
    refuseOrphanedLog(path, lockPathOf(path));
    if (identity !== undefined) refuseSecondName(Deno.realPathSync(path));
    return identity;
  } catch (error) {
    throw toFileError(error, path);
  }
}

/**
 * Sees to it that the file that was opened is the one that was looked at: SQLite may have opened
 * the one, and the path leads to the other by now.
 *
 * @param path Without symbolic links when the file was opened.
 * @throws {QueueFileError}
 */
export function refuseOther(before: FileIdentity | undefined, path: string): void {
  if (before === undefined || isSameFile(before, identityOfLinkAt(path))) return;
  throw queueFileError("busy", path, "another file took its place while it was being opened");
}

function refuseSender(path: string): void {
  try {
    refuseWhileSending(path);
  } catch (error) {
    throw toLockFileError(error, path, `${path}.lock`);
  }
}
