import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";

/** Stands in for the runtime's timers and its time, so that a test decides when it is. */
class ScriptedRuntime implements Disposable {
  nowMs = 0;
  readonly wakeUps: { readonly atMs: number; readonly run: () => void; cancelled: boolean }[] = [];
  readonly #real = {
    now: performance.now,
    setTimeout: globalThis.setTimeout,
    clearTimeout: globalThis.clearTimeout,
  };

  constructor() {
    performance.now = () => this.nowMs;
    replace(
      "setTimeout",
      (run: () => void, delayMs: number) =>
        this.wakeUps.push({ atMs: this.nowMs + delayMs, run, cancelled: false }),
    );
    replace("clearTimeout", (timer: number) => {
      const wakeUp = this.wakeUps[timer - 1];
      if (wakeUp !== undefined) wakeUp.cancelled = true;
    });
  }

  get waiting(): number[] {
    return this.wakeUps.filter(({ cancelled }) => !cancelled).map(({ atMs }) => atMs);
  }

  async wakeUp(index: number): Promise<void> {
    const wakeUp = this.wakeUps[index];
    assert(wakeUp !== undefined && !wakeUp.cancelled);
    this.nowMs = wakeUp.atMs;
    wakeUp.run();
    await Promise.resolve();
  }

  [Symbol.dispose](): void {
    performance.now = this.#real.now;
    replace("setTimeout", this.#real.setTimeout);
    replace("clearTimeout", this.#real.clearTimeout);
  }
}

/** What the runtime's functions are typed as has more than timers need. */
function replace(name: "setTimeout" | "clearTimeout", value: unknown): void {
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}

Deno.test("timers of a second share a wake-up, and none is early or more than 20 ms late", async () => {
  using runtime = new ScriptedRuntime();
  const calledAtMs: number[] = [];
  for (let i = 0; i < 1000; i++) {
    runtime.nowMs = 40 + Math.floor(i / 50);
    const dueMs = runtime.nowMs + 1000;
    systemClock.setTimer(1000, () => calledAtMs.push(runtime.nowMs - dueMs));
  }
  assert.deepEqual(runtime.waiting, [1040, 1060]);
  await runtime.wakeUp(0);
  await runtime.wakeUp(1);
  assert.equal(calledAtMs.length, 1000);
  assert(calledAtMs.every((lateMs) => lateMs >= 0 && lateMs <= 20));
});

Deno.test("a timer below a second has a wake-up of its own", () => {
  using runtime = new ScriptedRuntime();
  const cancel = systemClock.setTimer(999.5, () => {});
  systemClock.setTimer(1, () => {});
  assert.deepEqual(runtime.waiting, [999.5, 1]);
  cancel();
  assert.deepEqual(runtime.waiting, [1]);
});

Deno.test("cancelled timers are not called, and the last one takes the wake-up with it", async () => {
  using runtime = new ScriptedRuntime();
  const called: string[] = [];
  const cancels = ["a", "b", "c"].map((name) =>
    systemClock.setTimer(1000, () => {
      called.push(name);
      // Also from within the same wake-up.
      cancels[2]?.();
    })
  );
  cancels[0]?.();
  assert.deepEqual(runtime.waiting, [1000]);
  await runtime.wakeUp(0);
  assert.deepEqual(called, ["b"]);
  cancels[1]?.();

  const alone = systemClock.setTimer(1000, () => {});
  assert.equal(runtime.wakeUps.at(-1)?.cancelled, false);
  alone();
  assert.equal(runtime.wakeUps.at(-1)?.cancelled, true);
});

Deno.test("a callback may set the next timer, and one that throws keeps none from being called", async () => {
  using runtime = new ScriptedRuntime();
  const uncaught: unknown[] = [];
  const onError = (event: ErrorEvent) => {
    event.preventDefault();
    uncaught.push(event.error);
  };
  addEventListener("error", onError);
  const called: number[] = [];
  const error = new Error("of one callback");
  systemClock.setTimer(1000, () => {
    throw error;
  });
  systemClock.setTimer(1000, function again() {
    called.push(runtime.nowMs);
    systemClock.setTimer(1000, again);
  });
  await runtime.wakeUp(0);
  await runtime.wakeUp(1);
  removeEventListener("error", onError);
  assert.deepEqual(called, [1000, 2000]);
  assert.deepEqual(uncaught, [error]);
});

Deno.test("a timer of months waits in steps that the runtime can count", async () => {
  using runtime = new ScriptedRuntime();
  const days = 24 * 3600 * 1000;
  let calledAtMs: number | undefined;
  const cancel = systemClock.setTimer(60 * days, () => calledAtMs = runtime.nowMs);
  for (let i = 0; calledAtMs === undefined; i++) {
    assert((runtime.waiting[i] ?? 0) - runtime.nowMs <= 2 ** 31 - 1);
    await runtime.wakeUp(i);
  }
  assert(calledAtMs >= 60 * days && calledAtMs <= 60 * days + 60);
  cancel();
});
