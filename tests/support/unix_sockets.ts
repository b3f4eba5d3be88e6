/**
 * Tests that need Unix sockets. Deno grants each by its whole path and none by its
 * directory, so they run in a process of their own, which has the paths that it is told of.
 *
 * @module
 */

import assert from "node:assert/strict";
import { noChildren, testUnless } from "../kernel/helpers.ts";
import { TempDir } from "./temp_dir.ts";

/** The sockets that are granted. */
const NAMES = ["one.sock", "two.sock"] as const;

/** Runs the tests of a module, which is no `*.test.ts` itself, with sockets granted. */
export function testWithUnixSockets(module: string): void {
  const path = new URL(module).pathname;
  testUnless(noChildren(), `with Unix sockets: ${path.replace(/.*\/tests\//, "")}`, async () => {
    using dir = new TempDir();
    const sockets = NAMES.map((name) => `unix:${dir.file(name)}`);
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["test", "--no-check", "--trace-leaks", "--no-prompt"],
        `--allow-net=127.0.0.1,[::1],localhost,${sockets.join(",")}`,
        ...["--allow-read", "--allow-write", "--allow-ffi", "--allow-run"],
        ...["--allow-sys=uid,statfs", path, "--", dir.path],
      ],
      env: { NO_COLOR: "1" },
    }).output();
    const said = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)).join("");
    assert.ok(success, said);
    const [, passed = "0", failed, ignored = "0"] =
      /(\d+) passed[^|]*\| (\d+) failed(?: \| (\d+) ignored)?/.exec(said) ?? [];
    assert.ok(Number(passed) > 0 && failed === "0" && ignored === "0", said);
  });
}

/** The path of a granted socket, on which nobody listens yet. */
export function unixSocket(name: (typeof NAMES)[number] = "one.sock"): string {
  const [directory] = Deno.args;
  if (directory === undefined) throw new Error("run the *.test.ts beside this module");
  const path = `${directory}/${name}`;
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return path;
}
