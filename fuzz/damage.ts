/**
 * Damage to a queue's files, drawn by chance: what disks, copies and other programs
 * do to them.
 *
 * @module
 */

import { DatabaseSync } from "node:sqlite";
import type { SeededRandom } from "../simulation/random.ts";
import { HOSTILE_SQL } from "./hostile_sql.ts";
import { removeIfThere } from "./specimen.ts";

/** What was done to a queue's files. */
export interface Damage {
  readonly kind: "bytes" | "pages" | "log" | "sql";
  /** In words. */
  readonly what: string;
  /** All pages of the main file that are not as they were; `undefined`: that is not known. */
  readonly pages?: ReadonlySet<number>;
}

const PAGE_BYTES = 4096;

/** Damages the queue at `path`; nobody has it open. */
export function damage(path: string, random: SeededRandom): Damage {
  switch (random.pick(["bytes", "pages", "log", "sql"] as const)) {
    case "bytes":
      return damageBytes(path, random);
    case "pages":
      return damagePages(path, random);
    case "log":
      return damageLog(path, random);
    case "sql":
      return damageBySql(path, random);
  }
}

function damageBytes(path: string, random: SeededRandom): Damage {
  const bytes = Deno.readFileSync(path);
  const page = random.int(1, Math.max(1, bytes.length / PAGE_BYTES));
  const places = Array.from({ length: random.pick([1, 1, 2, 6]) }, () => random.int(0, 4095));
  // The headers of a page say the most, and are the smallest part of it.
  if (random.chance(0.3)) places.push(random.int(0, page === 1 ? 107 : 15));
  for (const place of places) spoil(bytes, (page - 1) * PAGE_BYTES + place, random);
  Deno.writeFileSync(path, bytes);
  const what = `page ${page}, bytes ${places.join(", ")} are others`;
  return { kind: "bytes", what, pages: new Set([page]) };
}

/** Makes one byte another. */
function spoil(bytes: Uint8Array, at: number, random: SeededRandom): void {
  const before = bytes[at];
  if (before === undefined) return;
  const other = random.pick([before ^ (1 << random.int(0, 7)), random.int(0, 255), 0, 255]);
  bytes[at] = other === before ? before ^ 1 : other;
}

function damagePages(path: string, random: SeededRandom): Damage {
  const bytes = Deno.readFileSync(path);
  const count = Math.max(1, Math.floor(bytes.length / PAGE_BYTES));
  const [page, other] = [random.int(1, count), random.int(1, count)];
  const at = (number: number) =>
    bytes.subarray((number - 1) * PAGE_BYTES, Math.min(bytes.length, number * PAGE_BYTES));
  switch (random.pick(["noise", "zero", "swap", "twice", "cut"] as const)) {
    case "noise":
      for (let i = 0; i < at(page).length; i++) at(page)[i] = random.int(0, 255);
      Deno.writeFileSync(path, bytes);
      return { kind: "pages", what: `page ${page} is noise`, pages: new Set([page]) };
    case "zero":
      at(page).fill(0);
      Deno.writeFileSync(path, bytes);
      return { kind: "pages", what: `page ${page} is zero`, pages: new Set([page]) };
    case "swap": {
      const kept = at(page).slice();
      at(page).set(at(other));
      at(other).set(kept);
      Deno.writeFileSync(path, bytes);
      return { kind: "pages", what: `pages ${page} and ${other} have changed places` };
    }
    case "twice":
      at(page).set(at(other));
      Deno.writeFileSync(path, bytes);
      return { kind: "pages", what: `page ${page} is a copy of page ${other}` };
    case "cut": {
      const size = random.chance(0.5) ? (page - 1) * PAGE_BYTES : random.int(0, bytes.length - 1);
      Deno.truncateSync(path, Math.max(0, size));
      return { kind: "pages", what: `the file is cut off at byte ${size}` };
    }
  }
}

function damageLog(path: string, random: SeededRandom): Damage {
  const log = `${path}-wal`;
  let bytes: Uint8Array = new Uint8Array(0);
  try {
    bytes = Deno.readFileSync(log);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  if (bytes.length === 0) {
    const noise = Uint8Array.from({ length: random.int(1, 20_000) }, () => random.int(0, 255));
    Deno.writeFileSync(log, noise);
    return { kind: "log", what: `${noise.length} bytes of noise are its log` };
  }
  switch (random.pick(["bytes", "cut", "gone", "foreign"] as const)) {
    case "bytes": {
      const place = random.chance(0.2) ? random.int(0, 55) : random.int(0, bytes.length - 1);
      spoil(bytes, place, random);
      Deno.writeFileSync(log, bytes);
      return { kind: "log", what: `byte ${place} of the log is another` };
    }
    case "cut": {
      const size = random.int(0, bytes.length - 1);
      Deno.truncateSync(log, size);
      return { kind: "log", what: `the log is cut off at byte ${size}` };
    }
    case "gone":
      removeIfThere(log);
      return { kind: "log", what: "the log is gone" };
    case "foreign":
      Deno.writeFileSync(log, foreignLog(`${path}.foreign`));
      return { kind: "log", what: "the log is that of another database" };
  }
}

function foreignLog(path: string): Uint8Array {
  const database = new DatabaseSync(path);
  try {
    database.exec("PRAGMA journal_mode = wal; CREATE TABLE packets (a); CREATE TABLE b (a)");
    return Deno.readFileSync(`${path}-wal`);
  } finally {
    database.close();
    removeIfThere(path);
  }
}

function damageBySql(path: string, random: SeededRandom): Damage {
  const done: string[] = [];
  const database = new DatabaseSync(path);
  try {
    for (let count = random.int(1, 2); count > 0; count--) {
      const sql = random.pick(HOSTILE_SQL)(random);
      try {
        database.exec(sql);
        done.push(sql);
      } catch (error) {
        done.push(`${sql} (refused: ${error instanceof Error ? error.message : String(error)})`);
      }
    }
  } finally {
    database.close();
  }
  return { kind: "sql", what: done.join("; ") };
}
