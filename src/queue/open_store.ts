import type { QueueOptions } from "./options.ts";
import type { QueueStore } from "./store/contract.ts";
import { SqliteStore } from "./store/sqlite_store.ts";
import { WorkerStoreClient } from "./worker/client.ts";

/**
 * Opens a queue's file, in this thread or in a Worker.
 *
 * @throws {QueueFileError}
 * @throws {Deno.errors.NotCapable} With the flags to add.
 */
export function openStore(
  path: string,
  { commitIn, durability, driver }: Required<QueueOptions>,
): QueueStore | Promise<QueueStore> {
  return commitIn === "worker"
    ? WorkerStoreClient.open(path, durability)
    : SqliteStore.open(path, { durability, driver });
}
