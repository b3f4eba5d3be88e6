/** What is left of a command that was interrupted. */
import assert from "node:assert/strict";
import { beginFile, finishFile } from "../../src/cli/commands/unfinished.ts";
import { backUp } from "../../src/queue/inspect/backup.ts";
import { NewFile } from "../../src/queue/repair/new_file.ts";
import { nodeSqlite } from "../../src/queue/sqlite/node_sqlite.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { packetsIn, runHere, Sendq } from "./helpers.ts";

const CHILD = new URL("killed_child.ts", import.meta.url).pathname;

/** The names in a directory that begin so. */
function named(dir: TempDir, start: string): string[] {
  return [...Deno.readDirSync(dir.path)].map(({ name }) => name)
    .filter((name) => name.startsWith(start)).sort();
}

Deno.test("repair, backup and export that are killed leave nothing under the new file's name", async (t) => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueueMany(["one\n", "two\n", "three\n", "four\n"]);
  }
  for (
    const args of [
      ["repair", dir.queue, dir.file("new")],
      ["backup", "-q", dir.queue, dir.file("new")],
      ["export", "-q", dir.queue, "-o", dir.file("new")],
    ]
  ) {
    await t.step(args[0] ?? "", async () => {
      const killed = await new Deno.Command(Deno.execPath(), {
        args: ["run", "--quiet", "--allow-all", CHILD, ...args],
      }).output();
      assert.equal(killed.signal, "SIGKILL", new TextDecoder().decode(killed.stderr));
      assert.deepEqual(named(dir, "new"), ["new.unfinished"]);
      const again = await runHere(args);
      assert.equal(again.code, 1);
      assert.match(
        again.err,
        /new\.unfinished is there: another run is at work, or was interrupted/,
      );
      for (const name of named(dir, "new")) Deno.removeSync(dir.file(name));
      const whole = await runHere(args);
      assert.equal(whole.code, 0, whole.err);
      assert.deepEqual(named(dir, "new"), ["new"]);
      if (args[0] !== "export") assert.equal(await packetsIn(dir.file("new")), 4);
      for (const name of named(dir, "new")) Deno.removeSync(dir.file(name));
    });
  }
});

Deno.test("a new file takes its name from no other one that has come meanwhile", () => {
  using dir = new TempDir();
  const path = dir.file("new");
  const unfinished = beginFile(path);
  Deno.writeTextFileSync(unfinished, "whole");
  Deno.writeTextFileSync(path, "precious");
  assert.throws(() => finishFile(path), /new\.unfinished is whole, and cannot be \S+new: /);
  assert.equal(Deno.readTextFileSync(path), "precious");
  assert.equal(Deno.readTextFileSync(unfinished), "whole");
  assert.throws(() => beginFile(path), /there is such a file already/);
  Deno.removeSync(path);
  assert.throws(() => beginFile(path), /new\.unfinished is there/);
  finishFile(path);
  assert.deepEqual(named(dir, "new"), ["new"]);
});

Deno.test("backup, repair and export to where nobody can look say so in words", async () => {
  using dir = new TempDir();
  await runHere(["enqueue", "-q", dir.queue, "one"]);
  Deno.symlinkSync("loop", dir.file("loop"));
  for (const to of [dir.file("loop"), dir.file("loop/new"), dir.file("x".repeat(300))]) {
    for (
      const args of [
        ["repair", dir.queue, to],
        ["backup", "-q", dir.queue, to],
        ["export", "-q", dir.queue, "-o", to],
      ]
    ) {
      const { code, err } = await runHere(args);
      assert.equal(code, 1);
      assert.match(err, /^sendq: \S+ cannot be made: (Too many levels|File name too long)/);
    }
  }
});

Deno.test("backup and repair that fail say why, and take away no file but their own", async () => {
  using dir = new TempDir();
  await runHere(["enqueue", "-q", dir.queue, "one"]);
  const to = dir.file("new");
  const replaced = () => {
    Deno.writeTextFileSync(dir.file("others"), "another's");
    Deno.renameSync(dir.file("others"), to);
  };
  for (const [interfere, left] of [[() => Deno.removeSync(to), []], [replaced, ["new"]]] as const) {
    const look = () => {
      interfere();
      return Promise.reject(new RangeError("why it has failed"));
    };
    await assert.rejects(backUp(dir.queue, to, { refuse: async () => {}, look }), RangeError);
    assert.deepEqual(named(dir, "new"), left);
    for (const name of left) Deno.removeSync(dir.file(name));
    const file = NewFile.create(to, nodeSqlite);
    interfere();
    file.discard();
    assert.deepEqual(named(dir, "new"), left);
    for (const name of left) Deno.removeSync(dir.file(name));
  }
});

Deno.test("export -o: who stops it is told, and no file is left; --force keeps the old one", async () => {
  using dir = new TempDir();
  const file = dir.file("packets");
  await runHere(["enqueue", "-q", dir.queue, "one"]);
  Deno.writeTextFileSync(file, "old");
  const { addSignalListener } = Deno;
  try {
    // It comes at the first moment at which anybody hears it.
    Deno.addSignalListener = (signal, listener) => {
      addSignalListener(signal, listener);
      if (signal === "SIGTERM") listener();
    };
    const stopped = await runHere(["export", "-q", dir.queue, "-o", file, "--force"]);
    assert.equal(stopped.code, 1);
    assert.match(stopped.err, /^sendq: SIGTERM: stopped at packet 1\. \S+packets was not made\n$/);
  } finally {
    Deno.addSignalListener = addSignalListener;
  }
  assert.equal(Deno.readTextFileSync(file), "old");
  assert.deepEqual(named(dir, "packets"), ["packets"]);
  Deno.symlinkSync(file, dir.file("link"));
  for (const to of [file, dir.file("link")]) {
    assert.equal((await runHere(["export", "-q", dir.queue, "-o", to, "--force"])).code, 0);
    assert.match(Deno.readTextFileSync(file), /^\{"id":1,.*\n$/);
    Deno.writeTextFileSync(file, "old");
  }
  assert(Deno.lstatSync(dir.file("link")).isSymlink);
});

Deno.test("export -o: who is overtaken by another run does not take its file for its own", async () => {
  using dir = new TempDir();
  const file = dir.file("packets");
  await runHere(["enqueue", "-q", dir.queue, "one"]);
  Deno.writeTextFileSync(file, "old");
  const { addSignalListener } = Deno;
  try {
    // Called once the file is open.
    Deno.addSignalListener = (signal, listener) => {
      addSignalListener(signal, listener);
      if (signal !== "SIGTERM") return;
      Deno.removeSync(`${file}.unfinished`);
      Deno.writeTextFileSync(`${file}.unfinished`, "half");
    };
    const overtaken = await runHere(["export", "-q", dir.queue, "-o", file, "--force"]);
    assert.equal(overtaken.code, 1);
    assert.equal(overtaken.out, "");
    assert.match(
      overtaken.err,
      /^sendq: \S+packets was not made: \S+packets\.unfinished was removed or replaced meanwhile, .*\n$/,
    );
    assert.equal(Deno.readTextFileSync(file), "old");
    assert.equal(Deno.readTextFileSync(`${file}.unfinished`), "half");
    Deno.addSignalListener = (signal, listener) => {
      addSignalListener(signal, listener);
      if (signal === "SIGTERM") Deno.removeSync(`${file}.unfinished`);
    };
    const robbed = await runHere(["export", "-q", dir.queue, "-o", file, "--force"]);
    assert.equal(robbed.code, 1);
    assert.match(robbed.err, /^sendq: \S+packets was not made: /);
    assert.equal(Deno.readTextFileSync(file), "old");
  } finally {
    Deno.addSignalListener = addSignalListener;
  }
});

const LINE = `{"payload":"${btoa("one\n")}"}\n`;

Deno.test("import: who stops it is told what is stored, and where the rest begins", async () => {
  using dir = new TempDir();
  await using sendq = new Sendq(["--allow-all"], ["import", "-q", dir.queue]);
  await sendq.write(LINE.repeat(5000));
  await until("the first batch", async () => {
    try {
      return (await runHere(["check", "-q", dir.queue])).out.startsWith("ok: 4,096 packets");
    } catch {
      return false;
    }
  });
  sendq.child.kill("SIGTERM");
  assert.equal(await sendq.ended(), 75, sendq.stderr);
  assert.match(
    sendq.stderr,
    /SIGTERM: stopped before the end\. Stored, up to line 4096: 4,096 packets, 16\.0 KiB, ids 1 to 4096\. The rest begins with tail -n \+4097\n$/,
  );
  assert.equal(await packetsIn(dir.queue), 4096);
});

Deno.test("import: who waits for room is told so, and can stop", async () => {
  using dir = new TempDir();
  await runHere(["enqueue", "-q", dir.queue, "one"]);
  const args = ["import", "-q", dir.queue, "--max-packets", "1"];
  await using sendq = new Sendq(["--allow-all"], args);
  await sendq.write(LINE);
  await sendq.endInput();
  await sendq.says(/the queue is full, or its disk or database is slow; waiting\. Ctrl-C stops/);
  sendq.child.kill("SIGINT");
  assert.equal(await sendq.ended(), 75, sendq.stderr);
  assert.match(sendq.stderr, /SIGINT: stopped before the end\. Nothing was stored\n$/);
  assert.equal(await packetsIn(dir.queue), 1);
});
