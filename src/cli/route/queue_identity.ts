/**
 * Which queue a route is about, however it is spelled.
 *
 * @module
 */

import { normalize } from "node:path/posix";
import { hostAndPort, isQueueUrl, parseQueueUrl } from "../../postgres/address.ts";
import { identityAt, mayLookAt } from "../../queue/sqlite/file_identity.ts";
import { isSpoolAddress, parseSpoolAddress } from "../../spool/address.ts";

/** A queue, as other routes' queues are compared with it. */
export interface QueueIdentity {
  /** The same for the same file, or for the same queue of a database. */
  readonly place: string;
  /** Which queue in a spool; undefined: the place has this one alone. */
  readonly name?: string;
}

/**
 * Finds it out: of a queue on PostgreSQL whoever logs in, and in which order its servers are named;
 * of one in a file whatever leads to it, where this process may look.
 *
 * @param queue What a route file calls it.
 */
export function identityOfQueue(queue: string): QueueIdentity {
  if (isQueueUrl(queue)) {
    const { hosts, database, name } = parseQueueUrl(queue);
    return { place: JSON.stringify([hosts.map(hostAndPort).toSorted(), database, name]) };
  }
  if (!isSpoolAddress(queue)) return { place: placeOf(queue) };
  const { file, name } = parseSpoolAddress(queue);
  return { place: placeOf(file), name };
}

function placeOf(file: string): string {
  const path = normalize(file);
  return knownBy(path) ?? inDirectory(path) ?? path;
}

/** By its number, which a symbolic link shares. */
function knownBy(path: string): string | undefined {
  try {
    const found = mayLookAt(path) ? identityAt(path) : undefined;
    return found && `${found.dev}:${found.ino}`;
  } catch {
    return undefined; // Whoever opens it says why.
  }
}

/** One that is not there yet, by where it will be. */
function inDirectory(path: string): string | undefined {
  const at = path.lastIndexOf("/");
  const directory = knownBy(at < 0 ? "." : path.slice(0, at) || "/");
  return directory && `${directory}/${path.slice(at + 1)}`;
}
