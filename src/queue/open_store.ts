import type { QueueOptions } from "./options.ts";
import { PacketStore } from "./store/sqlite_store.ts";
import type { Store } from "./store/contract.ts";
import { WorkerStore } from "./worker/client.ts";

/**
 * Opens a queue's file, in this thread or in a Worker.
 *
 * @throws {QueueFileError}
 * @throws {Deno.errors.NotCapable} With the flags to add.
 */
export function openStore(
  path: string,
  { commitIn, durability, driver }: Required<QueueOptions>,
): Store | Promise<Store> {
  return commitIn === "worker"
    ? WorkerStore.open(path, durability)
    : PacketStore.open(path, { durability, driver });
}
