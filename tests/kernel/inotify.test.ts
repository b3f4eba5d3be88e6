import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { KernelCallError } from "../../src/base/errors.ts";
import type { FileWatch } from "../../src/base/ports.ts";
import { inotify } from "../../src/kernel/inotify.ts";
import { TempDir } from "../support/temp_dir.ts";
import { within } from "../support/until.ts";

function watcher(): FileWatch {
  return inotify() ?? assert.fail("the C library was granted");
}

/** What a shell prints; Deno itself gives nobody anything of /proc without all rights. */
async function shell(script: string): Promise<number> {
  const { stdout } = await new Deno.Command("sh", { args: ["-c", script] }).output();
  return Number(new TextDecoder().decode(stdout));
}

/** How many inotify instances this process has. */
function instances(): Promise<number> {
  return shell(`ls -l /proc/${Deno.pid}/fd | grep -c anon_inode:inotify`);
}

function touch(path: string): void {
  const seconds = systemClock.wallMs() / 1000;
  Deno.utimeSync(path, seconds, seconds);
}

function made(dir: TempDir, name: string): string {
  const path = dir.file(name);
  Deno.writeTextFileSync(path, "");
  return path;
}

Deno.test("touches of a file are told, and writes are not", async () => {
  using dir = new TempDir();
  const [path, last] = [made(dir, "file"), made(dir, "last")];
  const told: string[] = [];
  let next = Promise.withResolvers<void>();
  const ends = [
    watcher().touches(path, () => told.push("file")),
    watcher().touches(last, () => next.resolve()),
  ];
  touch(path);
  touch(last);
  await next.promise;
  assert.deepEqual(told, ["file"]);
  Deno.writeTextFileSync(path, "written", { create: false });
  next = Promise.withResolvers();
  touch(last);
  await next.promise;
  assert.deepEqual(told, ["file"], "what comes in order was told in order");
  for (const end of ends) await end();
});

Deno.test("a write is told once, and the next one to who watches again", async () => {
  using dir = new TempDir();
  const path = made(dir, "file");
  const append = () => Deno.writeTextFileSync(path, "x", { append: true });
  let told = 0;
  for (let i = 1; i <= 3; i++) {
    const written = Promise.withResolvers<void>();
    const end = watcher().nextWrite(path, () => {
      told++;
      written.resolve();
    });
    append();
    await written.promise;
    append();
    await end();
    assert.equal(told, i);
  }
});

Deno.test("a thousand files take one instance, which goes with the last of them", async () => {
  using dir = new TempDir();
  const before = await instances();
  const told = new Set<number>();
  const all = Promise.withResolvers<void>();
  const paths = Array.from({ length: 1000 }, (_, i) => made(dir, `${i}`));
  const ends = paths.map((path, i) =>
    watcher().touches(path, () => {
      told.add(i);
      if (told.size === paths.length) all.resolve();
    })
  );
  assert.equal(await instances() - before, 1);
  paths.forEach(touch);
  await all.promise;
  await Promise.all(ends.map((end) => end()));
  assert.equal(await instances(), before);
});

Deno.test("whoever is told may end its watch, and begin another", async () => {
  using dir = new TempDir();
  const [first, second] = [made(dir, "1"), made(dir, "2")];
  const told: string[] = [];
  const done = Promise.withResolvers<() => Promise<void>>();
  const end = watcher().touches(first, () => {
    told.push("1");
    end();
    const endSecond = watcher().touches(second, () => {
      told.push("2");
      done.resolve(endSecond);
    });
    touch(first);
    touch(second);
  });
  touch(first);
  await (await done.promise)();
  assert.deepEqual(told, ["1", "2"]);
});

Deno.test("who ends the last watch does not wait for one that begins meanwhile", async () => {
  using dir = new TempDir();
  const [first, second] = [made(dir, "1"), made(dir, "2")];
  const ended = watcher().touches(first, () => {})();
  const told = Promise.withResolvers<void>();
  const endSecond = watcher().touches(second, () => told.resolve());
  await within("the first watch ends", ended);
  touch(second);
  await told.promise;
  await endSecond();
});

Deno.test("two who watch one file are both told, and each ends for itself", async () => {
  using dir = new TempDir();
  const path = made(dir, "file");
  const told = { first: 0, second: 0 };
  let next = Promise.withResolvers<void>();
  const endFirst = watcher().touches(path, () => told.first++);
  const endSecond = watcher().touches(path, () => {
    told.second++;
    next.resolve();
  });
  touch(path);
  await next.promise;
  next = Promise.withResolvers();
  await endFirst();
  await endFirst();
  touch(path);
  await next.promise;
  assert.deepEqual(told, { first: 1, second: 2 });
  await endSecond();
});

Deno.test("where events were lost, everybody is told", async () => {
  using dir = new TempDir();
  const paths = [made(dir, "1"), made(dir, "2"), made(dir, "quiet")];
  const limit = await shell("cat /proc/sys/fs/inotify/max_queued_events");
  const told = Promise.withResolvers<void>();
  const ends = paths.map((path, i) =>
    watcher().touches(path, () => {
      if (i === 2) told.resolve();
    })
  );
  // Two that follow each other are one event, if they are of the same file.
  for (let i = 0; i <= limit; i++) touch(paths[i % 2] ?? "");
  await told.promise;
  for (const end of ends) await end();
});

Deno.test("a file that is not there is named, and nothing is left open", async () => {
  using dir = new TempDir();
  const before = await instances();
  const path = dir.file("none");
  assert.throws(
    () => watcher().touches(path, () => {}),
    (error) => error instanceof KernelCallError && error.message.includes(path),
  );
  assert.equal(await instances(), before);
});
