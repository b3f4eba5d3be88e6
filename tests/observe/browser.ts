import { LineChild, type Spawn, spawnHere } from "../../lab/child.ts";
import type { BrowserAnswer, BrowserCommand } from "./browser_child.ts";

const PROGRAM = "/usr/bin/chromium";
const CHILD = new URL("browser_child.ts", import.meta.url).pathname;

/** Whether there is a browser to test with, and if not, why. */
export async function browserAvailable(): Promise<
  { readonly ok: true } | { readonly ok: false; readonly reason: string }
> {
  try {
    await Deno.stat(PROGRAM);
  } catch {
    return { ok: false, reason: `${PROGRAM} is missing` };
  }
  // Inside a network namespace nothing can be downloaded any more.
  const cached = await new Deno.Command(Deno.execPath(), {
    args: ["cache", "--quiet", CHILD],
    stderr: "piped",
  }).output();
  if (cached.success) return { ok: true };
  return {
    ok: false,
    reason: `playwright-core cannot be loaded: ${new TextDecoder().decode(cached.stderr).trim()}`,
  };
}

/** A browser with one page. */
export class Browser implements AsyncDisposable {
  readonly #child: LineChild;
  readonly #userData: string;
  #latest: BrowserAnswer = { requests: [], complaints: [] };

  private constructor(child: LineChild, userData: string) {
    this.#child = child;
    this.#userData = userData;
  }

  /** Starts it, here or in a network namespace. */
  static async start(spawn: Spawn = spawnHere): Promise<Browser> {
    const userData = await Deno.makeTempDir({ prefix: "sendq-browser-" });
    const child = new LineChild(spawn, Deno.execPath(), [
      ...["run", "--quiet", "--allow-all", CHILD],
      ...[PROGRAM, userData],
    ]);
    const browser = new Browser(child, userData);
    await child.hear();
    return browser;
  }

  /** Every URL that was asked for since the page was opened. */
  get requests(): readonly string[] {
    return this.#latest.requests;
  }

  /** Errors, and what the page's policy refused. */
  get complaints(): readonly string[] {
    return this.#latest.complaints;
  }

  /** Opens a page. */
  async open(url: string, options: { widthPx?: number; dark?: boolean } = {}): Promise<void> {
    const { widthPx = 1200, dark = false } = options;
    await this.#tell({ do: "open", url, widthPx, dark });
  }

  /** Resolves once the element's text fits. Returns how long that took. */
  async wait(selector: string, pattern: RegExp, timeoutMs = 30_000): Promise<number> {
    const { waitedMs } = await this.#tell({
      do: "wait",
      selector,
      pattern: pattern.source,
      timeoutMs,
    });
    return waitedMs ?? NaN;
  }

  /** The element's text. */
  async read(selector: string): Promise<string> {
    return (await this.#tell({ do: "read", selector })).text ?? "";
  }

  /** The texts of all elements that fit, in their order. */
  async readAll(selector: string): Promise<readonly string[]> {
    return (await this.#tell({ do: "readAll", selector })).texts ?? [];
  }

  /** Where it is. */
  async address(): Promise<string> {
    return (await this.#tell({ do: "address" })).text ?? "";
  }

  /** Presses an element. */
  async click(selector: string): Promise<void> {
    await this.#tell({ do: "click", selector });
  }

  /** Types into a field, and presses enter. */
  async fill(selector: string, text: string): Promise<void> {
    await this.#tell({ do: "fill", selector, text });
  }

  /** By how many pixels the page is wider than the window. */
  async overflowPx(): Promise<number> {
    return Number((await this.#tell({ do: "overflow" })).text);
  }

  /** Keeps what is to be seen. */
  async screenshot(path: string): Promise<void> {
    await this.#tell({ do: "screenshot", path });
  }

  async #tell(command: BrowserCommand): Promise<BrowserAnswer> {
    await this.#child.say(JSON.stringify(command));
    this.#latest = JSON.parse(await this.#child.hear());
    const { error } = this.#latest;
    if (error !== undefined) throw new Error(`${JSON.stringify(command)}: ${error}`);
    return this.#latest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tell({ do: "close" });
    await this.#child[Symbol.asyncDispose]();
    await Deno.remove(this.#userData, { recursive: true });
  }
}
