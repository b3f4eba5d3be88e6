import assert from "node:assert/strict";
import { InvalidArgumentError } from "commander";
import { OptionError, QueueFileError } from "../../src/base/errors.ts";
import { asUsageError } from "../../src/cli/arguments/options.ts";
import {
  parseCount,
  parseDuration,
  parseDurationOrNever,
  parseId,
  parseIdRanges,
  parseRemoteArgument,
  parseSize,
  writeDuration,
  writeSize,
} from "../../src/cli/arguments/values.ts";
import { explain, UsageError } from "../../src/cli/terminal/exit_code.ts";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatPackets,
} from "../../src/cli/terminal/figures.ts";
import { inFlags } from "../../src/cli/terminal/flags.ts";

Deno.test("durations are written in the unit that says most", () => {
  const cases: [number, string][] = [
    [0, "0ms"],
    [999, "999ms"],
    [1500, "1.5s"],
    [60_000, "1m"],
    [7_199_000, "120m"],
    [7_200_000, "2h"],
    [172_799_000, "48h"],
    [172_800_000, "2d"],
    [Infinity, "never"],
  ];
  for (const [ms, text] of cases) assert.equal(formatDuration(ms), text);
});

Deno.test("ids, and ranges of them", () => {
  assert.equal(parseId("12"), 12);
  assert.deepEqual(parseIdRanges("12"), [{ firstId: 12, lastId: 12 }]);
  assert.deepEqual(parseIdRanges("15-20", parseIdRanges("12")), [
    { firstId: 12, lastId: 12 },
    { firstId: 15, lastId: 20 },
  ]);
  for (const text of ["", "0", "-1", "01", "1.5", "x", "1e3", "99999999999999999"]) {
    assert.throws(() => parseId(text), InvalidArgumentError, text);
  }
  for (const text of ["", "-", "1-", "-2", "2-1", "1-2-3", "a-b", "0-3"]) {
    assert.throws(() => parseIdRanges(text), InvalidArgumentError, text);
  }
});

Deno.test("durations carry a unit", () => {
  const read = ["500ms", "3s", "1.5s", "2m", "1h", "1d", "0s"].map(parseDuration);
  assert.deepEqual(read, [500, 3000, 1500, 120_000, 3_600_000, 86_400_000, 0]);
  for (const text of ["3", "", "s", "3 s", "-3s", "3S", "3sec", "1e3s", "never", "3s4", ".5s"]) {
    assert.throws(() => parseDuration(text), InvalidArgumentError, text);
  }
  assert.equal(parseDurationOrNever("never"), Infinity);
  assert.equal(parseDurationOrNever("1s"), 1000);
});

Deno.test("sizes may carry a unit", () => {
  const read = ["4096", "1B", "64kB", "64KB", "64KiB", "1.5MiB", "1GiB", "2MB"].map(parseSize);
  assert.deepEqual(read, [4096, 1, 64_000, 64_000, 65_536, 1_572_864, 2 ** 30, 2_000_000]);
  for (const text of ["", "k", "64k", "64 KiB", "-1", "1.5", "0.3KiB", "1TiBB", "Infinity"]) {
    assert.throws(() => parseSize(text), InvalidArgumentError, text);
  }
});

Deno.test("counts are whole numbers", () => {
  assert.deepEqual(["0", "10", "10_000_000", "0x20"].map(parseCount), [0, 10, 10_000_000, 32]);
  for (const text of ["", "-1", "1.5", "1e3", "_1", "1__0", "0x", "9".repeat(20)]) {
    assert.throws(() => parseCount(text), InvalidArgumentError, text);
  }
});

Deno.test("remotes are tcp URLs", () => {
  assert.deepEqual(parseRemoteArgument("tcp://[::1]:4000"), { hostname: "::1", port: 4000 });
  for (const text of ["legacy:4000", "http://legacy:80", "tcp://legacy", "tcp://legacy:4000/x"]) {
    assert.throws(() => parseRemoteArgument(text), InvalidArgumentError, text);
  }
});

Deno.test("figures for people", () => {
  assert.deepEqual([0, 1023, 1024, 1_572_864, 2 ** 41].map(formatBytes), [
    ...["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "2048.0 GiB"],
  ]);
  assert.deepEqual([0, 1, 1234].map(formatPackets), ["0 packets", "1 packet", "1,234 packets"]);
});

Deno.test("messages of the library name the flags of the command", () => {
  assert.equal(
    inFlags("keepAlive.idleMs and maxPackets, but not keepAlive.other"),
    "--keepalive-idle and --max-packets, but not keepAlive.other",
  );
  assert.equal(
    inFlags("The kernel refused socket option congestion = x: it is not loaded."),
    "The kernel refused socket option --congestion = x: it is not loaded.",
  );
  assert.equal(
    inFlags(`raise maxPackets, or choose overflow "wait"`),
    `raise --max-packets, or choose --overflow "wait"`,
  );
  // Words of English, and flags that are flags already.
  for (
    const text of [
      "cannot connect: mark the overflow",
      'choose --overflow "wait"',
      "/data/maxBytes/outbox.db: there is no such file",
    ]
  ) {
    assert.equal(inFlags(text), text);
  }
});

Deno.test("a queue's path is printed as it is, whatever it is called", () => {
  const path = "/data/my maxBytes dir/outbox.db";
  assert.equal(
    explain(new QueueFileError("busy", path, `Queue ${path}: it is locked. Raise busyTimeoutMs.`)),
    `Queue ${path}: it is locked. Raise --busy-timeout.`,
  );
});

Deno.test("an option that the library refuses is named by its flag, its value with a unit", () => {
  const refused = new OptionError("holdMs", 400, "must be more than responseTimeoutMs");
  const error = asUsageError(refused);
  assert.ok(error instanceof UsageError);
  assert.equal(error.message, "--hold must be more than --response-timeout, got 400ms");
  const outside = asUsageError(new OptionError("ttlMs", 0, "must be an integer of 1 or more"));
  assert.ok(outside instanceof UsageError);
  assert.equal(outside.message, "--ttl must be 1ms or more, or never, got 0ms");
  const other = asUsageError(new OptionError("receivedBufferBytes", -1, "must be 0 or more"));
  assert.ok(other instanceof UsageError);
  assert.equal(other.message, "receivedBufferBytes must be 0 or more, got -1");
});

Deno.test("what an option takes is written so that it can be given", () => {
  const durations = [0, 400, 1500, 5000, 32_767_000, 86_400_000, 2 ** 31 - 1];
  assert.deepEqual(durations.map(writeDuration), [
    ...["0ms", "400ms", "1500ms", "5s", "32767s", "1d", "2147483647ms"],
  ]);
  assert.deepEqual(durations.map((ms) => parseDuration(writeDuration(ms))), durations);
  const sizes = [0, 1, 1023, 1024, 1536, 16 * 2 ** 20, 2 ** 40];
  assert.deepEqual(sizes.map(writeSize), ["0", "1", "1023", "1KiB", "1536", "16MiB", "1024GiB"]);
  assert.deepEqual(sizes.map((bytes) => parseSize(writeSize(bytes))), sizes);
});

Deno.test("counts are grouped by thousands, and keep three places behind the point", () => {
  const cases: readonly (readonly [number, string])[] = [
    [0, "0"],
    [7, "7"],
    [999, "999"],
    [1000, "1,000"],
    [-1234567, "-1,234,567"],
    [1234567.8916, "1,234,567.892"],
    [0.5, "0.5"],
    [NaN, "NaN"],
  ];
  for (const [count, words] of cases) assert.equal(formatCount(count), words);
});
