/** One process sends from a spool at a time, and in it one sender from each queue. */
import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { QueueLockedError } from "../../src/base/errors.ts";
import { readSenderNotice } from "../../src/queue/lock_file.ts";
import { type OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import type { Tenure } from "../../src/queue/tenure.ts";
import { lines } from "../queue/helpers.ts";
import { TempDir } from "../support/temp_dir.ts";
import { child, openAll } from "./helpers.ts";

function take(queue: OutboundQueue): Promise<Tenure> {
  return sendingSideOf(queue).takeTenure(systemClock);
}

function isLocked(pid: number, path?: string): (error: unknown) => boolean {
  return (error) =>
    error instanceof QueueLockedError && error.holderPid === pid &&
    (path === undefined || error.message.includes(path));
}

/** Asks for a queue in another process that gives it back at once. Returns what it said. */
async function tryElsewhere(file: string, name: string): Promise<string> {
  const holder = child("holder.ts", file, name);
  await holder.stdin.close();
  const { stdout, success } = await holder.output();
  assert(success);
  return new TextDecoder().decode(stdout).trimEnd();
}

Deno.test("while a process sends from one queue, no other one sends from any; its end frees them", async () => {
  using dir = new TempDir();
  await using queues = await openAll(dir.queue, ["a", "b"]);
  const [a, b] = queues.all;
  const holder = child("holder.ts", dir.queue, "a");
  const said = lines(holder.stdout);
  assert.equal((await said.next()).value, `held ${holder.pid}`);
  await assert.rejects(take(a), isLocked(holder.pid));
  await assert.rejects(take(b), isLocked(holder.pid));
  // To store is everybody's right.
  assert.equal(await a.enqueue("x"), 1);
  holder.kill("SIGKILL");
  await holder.status;
  await said.return?.();
  await holder.stdin.abort().catch(() => {});
  const tenures = await Promise.all([take(b), take(a)]);
  for (const tenure of tenures) await tenure.release();
});

Deno.test("a process that sends keeps others away until its last sender has ended", async () => {
  using dir = new TempDir();
  await using queues = await openAll(dir.queue, ["a", "b"]);
  const [a, b] = queues.all;
  const [first, second] = [await take(a), await take(b)];
  const refused = new RegExp(`process ${Deno.pid}`);
  assert.match(await tryElsewhere(dir.queue, "a"), refused);
  await first.release();
  // Also for the queue that nobody sends from any more.
  assert.match(await tryElsewhere(dir.queue, "a"), refused);
  assert.match(await tryElsewhere(dir.queue, "c"), refused);
  await second.release();
  assert.match(await tryElsewhere(dir.queue, "a"), /^held /);
  assert.equal(await readSenderNotice(dir.queue), undefined);
});

Deno.test("a queue has one sender in its process, whichever way it was opened", async () => {
  using dir = new TempDir();
  await using queues = await openAll(dir.queue, ["a", "a", "b"]);
  const [one, other, b] = queues.all;
  const tenure = await take(one);
  await assert.rejects(take(one), isLocked(Deno.pid, `${dir.queue}#a`));
  await assert.rejects(take(other), isLocked(Deno.pid, `${dir.queue}#a`));
  const beside = await take(b);
  await tenure.release();
  await tenure.release();
  assert.equal(tenure.validForMs(), 0);
  const next = await take(other);
  assert.equal(next.validForMs(), Infinity);
  // One that has ended gives nothing back that is another's by now.
  await tenure.release();
  await assert.rejects(take(one), isLocked(Deno.pid));
  await next.release();
  await beside.release();
});

Deno.test("senders that begin and end at once have one lock in all, and leave none", async () => {
  using dir = new TempDir();
  const names = Array.from({ length: 10 }, (_, i) => `q${i}`);
  await using queues = await openAll(dir.queue, names);
  for (let round = 0; round < 3; round++) {
    const tenures = await Promise.all(queues.all.map(take));
    // Half of them end, and begin again before that is over.
    const ending = tenures.slice(0, 5).map((tenure) => tenure.release());
    const again = await Promise.all(queues.all.slice(0, 5).map(take));
    await Promise.all(ending);
    assert.equal((await readSenderNotice(dir.queue))?.pid, Deno.pid);
    // All of them end, and one begins again before that is over.
    const all = [...again, ...tenures.slice(5)].map((tenure) => tenure.release());
    const last = await take(queues.all[3] ?? assert.fail());
    await Promise.all(all);
    assert.equal((await readSenderNotice(dir.queue))?.pid, Deno.pid);
    await last.release();
    assert.equal(await readSenderNotice(dir.queue), undefined);
  }
});

Deno.test("a lock that was refused to several at once is given to them later", async () => {
  using dir = new TempDir();
  await using queues = await openAll(dir.queue, ["a", "b", "c"]);
  const holder = child("holder.ts", dir.queue, "a");
  const said = lines(holder.stdout);
  assert.equal((await said.next()).value, `held ${holder.pid}`);
  for (const end of await Promise.allSettled(queues.all.map(take))) {
    assert(end.status === "rejected" && isLocked(holder.pid)(end.reason));
  }
  await holder.stdin.close();
  assert((await holder.status).success);
  await said.return?.();
  for (const tenure of await Promise.all(queues.all.map(take))) await tenure.release();
});

Deno.test("a spool's lock file that is removed is missed by each of its senders", async () => {
  using dir = new TempDir();
  await using queues = await openAll(dir.queue, ["a", "b"]);
  const tenures = await Promise.all(queues.all.map(take));
  Deno.removeSync(`${dir.queue}.lock`);
  for (const tenure of tenures) assert.match(tenure.misplaced() ?? "", /\.lock was removed/);
  for (const tenure of tenures) await tenure.release();
});
