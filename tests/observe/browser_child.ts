/**
 * Drives a browser; one JSON command a line in, one JSON answer a line out.
 *
 * It is a process of its own because playwright wants every permission, and so
 * that it can run inside a network namespace.
 *
 * `overflow` says by how many pixels the page, or a cell of a table, is wider than its place.
 *
 * Arguments: the browser's program, an empty directory for its user data.
 */
import { chromium, type Page } from "playwright-core";

/** What it is told. `wait` resolves once the element's text fits the pattern. */
export type BrowserCommand =
  | { readonly do: "open"; readonly url: string; readonly widthPx: number; readonly dark: boolean }
  | {
    readonly do: "wait";
    readonly selector: string;
    readonly pattern: string;
    readonly timeoutMs: number;
  }
  | { readonly do: "read"; readonly selector: string }
  | { readonly do: "readAll"; readonly selector: string }
  | { readonly do: "click"; readonly selector: string }
  | { readonly do: "address" }
  | { readonly do: "fill"; readonly selector: string; readonly text: string }
  | { readonly do: "overflow" }
  | { readonly do: "screenshot"; readonly path: string }
  | { readonly do: "close" };

/** What it answers. */
export interface BrowserAnswer {
  /** What was read. */
  readonly text?: string;
  /** What was read of each element that fits. */
  readonly texts?: readonly string[];
  /** How long it waited. */
  readonly waitedMs?: number;
  /** Everything that was asked for, by URL, since the page was opened. */
  readonly requests: readonly string[];
  /** What the page complained of: errors, refusals by its policy. */
  readonly complaints: readonly string[];
  /** Why the command was not carried out. */
  readonly error?: string;
}

const [program = "", userData = ""] = Deno.args;
const context = await chromium.launchPersistentContext(userData, {
  executablePath: program,
  headless: true,
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
const page: Page = context.pages()[0] ?? await context.newPage();
let requests: string[] = [];
let complaints: string[] = [];
context.on("request", (request) => requests.push(request.url()));
page.on("console", (message) => {
  if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
});
page.on("pageerror", (error) => complaints.push(error.message));

async function carryOut(command: BrowserCommand): Promise<Partial<BrowserAnswer>> {
  switch (command.do) {
    case "open":
      requests = [];
      complaints = [];
      await page.setViewportSize({ width: command.widthPx, height: 900 });
      await page.emulateMedia({ colorScheme: command.dark ? "dark" : "light" });
      await page.goto(command.url);
      return {};
    case "wait": {
      const startMs = performance.now();
      await page.locator(command.selector).filter({ hasText: new RegExp(command.pattern) })
        .waitFor({ timeout: command.timeoutMs });
      return { waitedMs: performance.now() - startMs };
    }
    case "read":
      return { text: await page.textContent(command.selector) ?? "" };
    case "readAll":
      return { texts: await page.locator(command.selector).allTextContents() };
    case "address":
      return { text: page.url() };
    case "click":
      await page.click(command.selector);
      return {};
    case "fill":
      await page.fill(command.selector, command.text);
      await page.press(command.selector, "Enter");
      return {};
    case "overflow":
      return {
        text: String(
          await page.evaluate(
            "Math.max(...[document.documentElement, ...document.querySelectorAll('td')]" +
              ".map((element) => element.scrollWidth - element.clientWidth))",
          ),
        ),
      };
    case "screenshot":
      await page.screenshot({ path: command.path });
      return {};
    case "close":
      await context.close();
      return {};
    default:
      throw new TypeError(`unknown command ${JSON.stringify(command satisfies never)}`);
  }
}

const print = (answer: BrowserAnswer) =>
  Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(answer) + "\n"));
print({ text: "ready", requests, complaints });
let rest = "";
for await (const part of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  rest += part;
  for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
    const line = rest.slice(0, end);
    rest = rest.slice(end + 1);
    try {
      print({ ...await carryOut(JSON.parse(line)), requests, complaints });
    } catch (error) {
      print({
        error: error instanceof Error ? error.message : String(error),
        requests,
        complaints,
      });
    }
  }
}
