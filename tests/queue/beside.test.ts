/** What lies beside a queue, in a directory of somebody who wishes us ill. */
import assert from "node:assert/strict";
import { QueueFileError } from "../../src/base/errors.ts";
import { openError } from "../../src/queue/inspect/open_for_looking.ts";
import { readSenderNotice } from "../../src/queue/lock_file.ts";
import { makeRoomToOpen, prepareLockFile, SenderLock } from "../../src/queue/sender_lock.ts";
import { codeFromText, SqliteError } from "../../src/queue/sqlite/driver.ts";
import { toFileError } from "../../src/queue/sqlite/file_error.ts";
import { Reports } from "../../src/spool/reports.ts";
import { TempDir } from "../support/temp_dir.ts";
import { sha256, unless } from "./helpers.ts";

const isMisplaced = (error: unknown) =>
  error instanceof QueueFileError && error.reason === "misplaced";

/**
 * Lets somebody be quicker: at the last moment before `path` is opened, and again behind it.
 *
 * @returns Ends it.
 */
function meddle(path: string, before: () => void, behind: () => void = () => {}): Disposable {
  const { openSync } = Deno;
  let isUnderWay = false;
  Deno.openSync = (opened, options) => {
    if (opened !== path || isUnderWay) return openSync(opened, options);
    isUnderWay = true;
    before();
    try {
      return openSync(opened, options);
    } finally {
      behind();
      isUnderWay = false;
    }
  };
  return {
    [Symbol.dispose]: () => {
      Deno.openSync = openSync;
    },
  };
}

function replaceByLink(path: string, victim: string): void {
  Deno.removeSync(path);
  Deno.symlinkSync(victim, path);
}

/** What is done to files beside a queue, and which of them. */
const USES: readonly (readonly [
  name: string,
  file: string,
  use: (queue: string) => unknown,
])[] = [
  ["the lock is taken", ".lock", (queue) => SenderLock.acquire(queue)],
  ["somebody asks for the sender", ".lock", (queue) => readSenderNotice(queue)],
  ["room is made on a full disk", ".lock", (queue) => makeRoomToOpen(queue)],
  ["a spool's sender reports", ".reports", (queue) => new Reports(queue)],
];

for (const [name, end, use] of USES) {
  Deno.test(`where a link takes the file's place while ${name}, no other file changes`, async () => {
    for (const isBack of [false, true]) {
      using dir = new TempDir();
      const victim = dir.file("victim");
      Deno.writeFileSync(victim, new Uint8Array(1024 * 1024).fill(7), { mode: 0o640 });
      Deno.chmodSync(victim, 0o640);
      const before = [await sha256(victim), Deno.statSync(victim).mode];
      Deno.writeTextFileSync(dir.queue, "");
      const path = dir.queue + end;
      Deno.writeTextFileSync(path, "");
      {
        using _ = meddle(
          path,
          () => replaceByLink(path, victim),
          () => isBack && (Deno.removeSync(path), Deno.writeTextFileSync(path, "")),
        );
        try {
          const result = await use(dir.queue);
          assert.equal(result, false, "it was not noticed");
        } catch (error) {
          assert(isMisplaced(error), String(error));
        }
      }
      assert.deepEqual([await sha256(victim), Deno.statSync(victim).mode], before);
    }
  });
}

Deno.test("a file beside a queue that has a second name is not written", async () => {
  for (const [, end, use] of USES) {
    using dir = new TempDir();
    const victim = dir.file("victim");
    Deno.writeTextFileSync(dir.queue, "");
    Deno.writeFileSync(victim, new Uint8Array(1024 * 1024).fill(7));
    Deno.linkSync(victim, dir.queue + end);
    const before = await sha256(victim);
    try {
      assert.equal(await use(dir.queue), false, "it was not noticed");
    } catch (error) {
      assert(isMisplaced(error), String(error));
    }
    assert.equal(await sha256(victim), before);
  }
});

Deno.test("where a link takes a new lock file's place, what it leads to keeps its mode", () => {
  for (const mode of [0o666, 0o600]) {
    using dir = new TempDir();
    const victim = dir.file("victim");
    for (const [file, of] of [[victim, 0o640], [dir.queue, mode]] as const) {
      Deno.writeTextFileSync(file, "");
      Deno.chmodSync(file, of);
    }
    const path = `${dir.queue}.lock`;
    {
      using _ = meddle(path, () => {}, () => replaceByLink(path, victim));
      prepareLockFile(dir.queue);
    }
    assert.equal(Deno.lstatSync(path).isSymlink, true);
    assert.equal((Deno.statSync(victim).mode ?? 0) & 0o777, 0o640);
    Deno.removeSync(path);
    prepareLockFile(dir.queue);
    assert.equal((Deno.statSync(path).mode ?? 0) & 0o777, mode, "else it has the queue's");
  }
});

Deno.test({
  ...unless(
    Deno.uid() === 0 ? undefined : "takes root",
    "where SQLite's files are another user's than the queue, an error names them and their owner",
  ),
  fn: () => {
    using dir = new TempDir();
    Deno.writeTextFileSync(dir.queue, "");
    Deno.chownSync(dir.queue, 3001, 4000);
    const texts = ["unable to open database file", "attempt to write a readonly database"];
    const errors = texts.map((text) => new SqliteError(codeFromText(text), text));
    const words = () =>
      errors.flatMap((error) => [toFileError(error, dir.queue), openError(error, dir.queue)])
        .map((error) => error instanceof QueueFileError ? error.message : "");
    const isNamed = (end: string) =>
      words().every((text) => text.includes(`${dir.queue}${end} belongs to user 3002 and group`));
    for (const end of ["-wal", "-shm"]) {
      const file = dir.queue + end;
      Deno.writeTextFileSync(file, "");
      Deno.chownSync(file, 3002, 3002);
      assert(isNamed(end), words().join("\n"));
      assert(words().every((text) => text.includes("chmod g+s")));
      Deno.chownSync(file, 3001, 4000);
      assert(!isNamed(end), words().join("\n"));
    }
  },
});

/** Why nothing can be run as another user; `undefined`: it can. */
const NO_OTHER_USER = (() => {
  if (Deno.uid() !== 0) return "takes root";
  try {
    new Deno.Command("setpriv", { args: ["--version"] }).outputSync();
    return undefined;
  } catch {
    return "takes setpriv";
  }
})();

Deno.test({
  ...unless(
    NO_OTHER_USER,
    "a lock file belongs to the queue's owner and group; who is not root gives it to the group",
  ),
  fn: async () => {
    using dir = new TempDir();
    Deno.chmodSync(dir.path, 0o777);
    for (const [uid, gid] of [[3001, 4000], [3001, 3001]] as const) {
      const queue = dir.file(`queue of ${gid}`);
      Deno.writeTextFileSync(queue, "");
      Deno.chmodSync(queue, 0o660);
      Deno.chownSync(queue, uid, gid);
      prepareLockFile(queue);
      const made = Deno.statSync(`${queue}.lock`);
      assert.deepEqual([made.uid, made.gid, (made.mode ?? 0) & 0o777], [uid, gid, 0o660]);
      Deno.removeSync(`${queue}.lock`);
      const prepare = new URL("../../src/queue/sender_lock.ts", import.meta.url).href;
      const script = dir.file("script.ts");
      Deno.writeTextFileSync(
        script,
        `const { prepareLockFile } = await import(${JSON.stringify(prepare)});
        prepareLockFile(${JSON.stringify(queue)});`,
      );
      const home = dir.file(`home of ${gid}`);
      Deno.mkdirSync(home);
      Deno.chownSync(home, 3002, 3002);
      const { success, stderr } = await new Deno.Command("setpriv", {
        args: [
          ...["--reuid", "3002", "--regid", "3002", "--groups", "4000", Deno.execPath(), "run"],
          ...["--no-prompt", "--no-lock", "--no-check", "--allow-all", script],
        ],
        env: { HOME: home, DENO_DIR: home },
        stderr: "piped",
      }).output();
      assert(success, new TextDecoder().decode(stderr));
      const theirs = Deno.statSync(`${queue}.lock`);
      // Of a group of which they are no member they can make nothing.
      assert.deepEqual([theirs.uid, theirs.gid], [3002, gid === 4000 ? 4000 : 3002]);
      assert.equal((theirs.mode ?? 0) & 0o777, 0o660);
    }
  },
});
