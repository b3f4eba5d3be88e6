/**
 * A store in a Worker, answering one call after the other.
 *
 * @module
 */

import type { SqliteDriver } from "../sqlite/driver.ts";
import { SqliteStore } from "../store/sqlite_store.ts";
import {
  buffersOf,
  listen,
  packError,
  type StoreAnswer,
  type StoreCall,
  type StoreWorkerData,
  unpackCommit,
} from "./messages.ts";

/**
 * Opens the file and serves it until it is closed. The first answer tells the
 * file's real path, or why it could not be opened.
 *
 * @param data What the Worker was started with.
 * @param driver The library that gives access to SQLite.
 */
export function serveStore(
  { port, path, durability }: StoreWorkerData,
  driver: SqliteDriver,
): void {
  const answer = (message: StoreAnswer): void => {
    port.postMessage(message, [...buffersOf(message)]);
  };
  let store: SqliteStore;
  try {
    store = SqliteStore.open(path, { driver, durability });
    answer({ value: store.path });
  } catch (error) {
    answer({ error: packError(error) });
    return;
  }
  listen(port, (call: StoreCall) => {
    // Its buffer goes back, to be used again.
    const lent = call.method === "commit" ? { buffer: call.request.buffer } : {};
    try {
      answer({ value: perform(store, call), ...lent });
    } catch (error) {
      answer({ error: packError(error), ...lent });
    }
  });
}

function perform(store: SqliteStore, call: StoreCall): unknown {
  if (call.method !== "commit") {
    // What can be called and with what is checked where it is sent.
    const method: (...args: never[]) => unknown = store[call.method];
    return Reflect.apply(method, store, call.args);
  }
  const { batches: _, ...result } = store.commit(unpackCommit(call.request));
  return result;
}
