/**
 * New files of commands: each has a name of its own until it is whole, so that one that was
 * interrupted is taken for nothing else.
 */

import { messageOf } from "../../base/errors.ts";
import { refuseWhatIsLeft } from "../../queue/sqlite/beside.ts";
import { belongsToQueue } from "../../queue/sqlite/copy.ts";
import { CommandError } from "../terminal/exit_code.ts";

/** How a file is called until it is whole. */
export function unfinishedPathOf(path: string): string {
  return `${path}.unfinished`;
}

/**
 * Sees to it that a file can be begun.
 *
 * @returns What it is called until then.
 * @throws {CommandError} There is one of either name, or nobody can look.
 */
export function beginFile(path: string): string {
  if (isThere(path)) {
    throw new CommandError(
      `${path}: there is such a file already. It was left as it is. Give the path of a new one`,
    );
  }
  const unfinished = unfinishedPathOf(path);
  if (!isThere(unfinished)) return unfinished;
  throw new CommandError(
    `${unfinished} is there: another run is at work, or was interrupted. Then remove it, with a ` +
      "-journal beside it, and try again",
  );
}

/**
 * The same for a file that will be a database. Under a name of its own nothing is in its way, but
 * SQLite would take what is left there of another one for a part of it.
 *
 * @throws {QueueFileError} Something is left there of one, or a sender runs on what was there.
 */
export function beginCopy(path: string): string {
  const unfinished = beginFile(path);
  refuseWhatIsLeft(path);
  return unfinished;
}

/**
 * Gives a file its name, over no other one.
 *
 * @throws {CommandError} It keeps its name: there is one of that name, or the disk says no.
 */
export function finishFile(path: string): void {
  const unfinished = unfinishedPathOf(path);
  try {
    try {
      Deno.linkSync(unfinished, path);
      Deno.removeSync(unfinished);
    } catch (error) {
      // Not every filesystem has links.
      if (isThere(path)) throw error;
      Deno.renameSync(unfinished, path);
    }
  } catch (error) {
    throw new CommandError(`${unfinished} is whole, and cannot be ${path}: ${messageOf(error)}`);
  }
}

/** @throws {CommandError} Nobody can look. */
export function isThere(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw cannotBeMade(error, path);
  }
}

/**
 * Whether a file that is to be made would be the queue's, or one of those beside it.
 *
 * @throws {CommandError} Nobody can look.
 */
export function wouldBeOfQueue(path: string, queue: string): boolean {
  try {
    return belongsToQueue(path, queue);
  } catch (error) {
    throw cannotBeMade(error, path);
  }
}

function cannotBeMade(error: unknown, path: string): unknown {
  return error instanceof Deno.errors.NotCapable
    ? error
    : new CommandError(`${path} cannot be made: ${messageOf(error)}`);
}
