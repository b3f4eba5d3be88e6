import { FencedError } from "../../base/errors.ts";
import { isDiskFull } from "../sqlite/file_error.ts";
import type { PendingEnqueue } from "./pending_enqueues.ts";

/** Removals that were asked for since the last transaction, as one. */
export interface Removal {
  /** The highest id that anybody wants removed. */
  throughId: number;
  /** Whether it is what a commit had no room for. */
  readonly isRest?: boolean;
  readonly waiters: { readonly resolve: () => void; readonly reject: (reason: unknown) => void }[];
}

export interface Job {
  readonly units: PendingEnqueue[];
  readonly removal: Removal | undefined;
  /** Whether all of it is: else a large removal may leave some of it for the next transaction. */
  readonly removesAll?: boolean;
}

export interface CommitInPartsOptions {
  /**
   * Commits a job in one transaction.
   *
   * @returns Its units that wait for room.
   */
  attempt(job: Job): Promise<PendingEnqueue[]>;
  fail(job: Job, error: unknown): void;
  /** Every id up to this one has left the queue. */
  removedThrough(): number;
  /** Makes what room there is on a full disk: the log's space can be used again. */
  makeRoom(): Promise<void>;
  /** Lets other events be handled before the next attempt. */
  nextTick(): Promise<void>;
}

/**
 * Commits a job. When the disk is full, it is halved again and again, so that every packet for
 * which there is room still goes through. So is a removal, down to single packets: it needs a
 * little room before it makes some.
 *
 * @returns The units that wait for room.
 */
export async function commitInParts(
  whole: Job,
  { attempt, fail, removedThrough, makeRoom, nextTick }: CommitInPartsOptions,
): Promise<PendingEnqueue[]> {
  const jobs = [whole];
  const unplaced: PendingEnqueue[] = [];
  let tooLargeBytes = Infinity;
  let noRemovalError: unknown;
  for (let job = jobs.pop(); job !== undefined; job = jobs.pop()) {
    if (unplaced.length > 0 && job.removal === undefined) {
      unplaced.push(...job.units);
      continue;
    }
    if (noRemovalError !== undefined && job.removal !== undefined && job.units.length === 0) {
      fail(job, noRemovalError);
      continue;
    }
    try {
      unplaced.push(...await attempt(job));
    } catch (error) {
      const halves = isDiskFull(error)
        ? split(job, removedThrough())
        : error instanceof FencedError
        ? withoutRemoval(job)
        : [];
      if (halves.length === 0) {
        fail(job, error);
        if (isDiskFull(error)) {
          tooLargeBytes = Math.min(tooLargeBytes, bytesOf(job));
          if (job.units.length === 0) noRemovalError = error;
        }
      }
      if (isDiskFull(error) && job.removal !== undefined) await makeRoom();
      jobs.push(...halves.reverse());
      // One as large as one that has just failed would fail as well.
      for (const rest of jobs) {
        const units = [...takeOut(rest, ({ bytes }) => bytes >= tooLargeBytes)];
        fail({ units, removal: undefined }, error);
      }
      await nextTick();
    }
  }
  return unplaced;
}

/** Packets are stored, whoever may remove. */
function withoutRemoval({ units, removal }: Job): Job[] {
  if (units.length === 0 || removal === undefined) return [];
  return [{ units: [], removal }, { units, removal: undefined }];
}

/** The removal by itself first, because it makes room; then each half of the units. */
function split({ units, removal, removesAll = false }: Job, removedThrough: number): Job[] {
  if (units.length === 0 && removal !== undefined) {
    const middle = removedThrough + Math.floor((removal.throughId - removedThrough) / 2);
    if (middle <= removedThrough) return [];
    const first = { throughId: middle, waiters: [] };
    return [{ units, removal: first, removesAll }, { units: [], removal, removesAll }];
  }
  const parts: Job[] = removal === undefined ? [] : [{ units: [], removal, removesAll: true }];
  if (units.length === 1 && removal !== undefined) parts.push({ units, removal: undefined });
  if (units.length > 1) {
    const middle = units.length >> 1;
    parts.push({ units: units.slice(0, middle), removal: undefined });
    parts.push({ units: units.slice(middle), removal: undefined });
  }
  return parts.length > 1 ? parts : [];
}

function bytesOf({ units }: Job): number {
  return units.length === 0 ? Infinity : units.reduce((sum, unit) => sum + unit.bytes, 0);
}

const NONE: readonly PendingEnqueue[] = [];

/** Takes units out of a job. */
export function takeOut(
  { units }: Job,
  isOut: (unit: PendingEnqueue) => boolean,
): readonly PendingEnqueue[] {
  if (!units.some(isOut)) return NONE;
  const out = units.filter(isOut);
  units.splice(0, Infinity, ...units.filter((unit) => !isOut(unit)));
  return out;
}
