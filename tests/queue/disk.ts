import assert from "node:assert/strict";
import { TempDir } from "../support/temp_dir.ts";
import { mountTmpfs } from "./helpers.ts";

/** A small disk of its own. */
export class Disk implements Disposable {
  readonly queue: string;
  readonly #dir = new TempDir();
  readonly #mounted: { unmount(): void };

  constructor(options: string) {
    const path = `${this.#dir.path}/disk`;
    const mounted = mountTmpfs(path, options);
    assert(typeof mounted !== "string", String(mounted));
    this.#mounted = mounted;
    this.queue = `${path}/outbox.db`;
  }

  fillUp(): void {
    using file = Deno.openSync(`${this.queue}.ballast`, { write: true, create: true });
    try {
      for (;;) file.writeSync(new Uint8Array(4096));
    } catch (error) {
      assert(error instanceof Error && "code" in error && error.code === "ENOSPC");
    }
  }

  makeRoom(): void {
    Deno.removeSync(`${this.queue}.ballast`);
  }

  [Symbol.dispose](): void {
    this.#mounted.unmount();
    this.#dir[Symbol.dispose]();
  }
}
