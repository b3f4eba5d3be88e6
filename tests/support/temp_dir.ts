/**
 * A place for files that a test makes.
 *
 * @module
 */

/** A directory that goes away with the test. */
export class TempDir implements Disposable {
  readonly path: string = Deno.makeTempDirSync({ prefix: "sendq-test-" });
  /** Where a queue may be made. */
  readonly queue: string = this.file("outbox.db");

  /** The path of a file in it. */
  file(name: string): string {
    return `${this.path}/${name}`;
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}
