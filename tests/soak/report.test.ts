import assert from "node:assert/strict";
import { failuresOf, type Figures, formatTable } from "../../soak/report.ts";
import { type Sample, trendOf } from "../../soak/trend.ts";

const MIB = 1024 ** 2;
const sample: Sample = {
  rssBytes: 80 * MIB,
  liveBytes: 8 * MIB,
  descriptors: 30,
  walBytes: 4 * MIB,
  enqueuerRssBytes: 60 * MIB,
  enqueuerLiveBytes: 7 * MIB,
};
const figures: Figures = {
  seed: 1,
  seconds: 60,
  interrupted: false,
  wrong: undefined,
  faults: new Map([["path-cut", 2]]),
  givenUp: new Map(),
  connections: 3,
  senders: 1,
  servers: 1,
  stored: 100,
  missing: { lost: 0, diedUnread: 0 },
  skipped: { lost: 0, diedUnread: 0 },
  leftOnDisk: { packets: 0, deadPackets: 0 },
  read: 110,
  duplicates: 10,
  duplicatesBound: 10,
  outOfOrder: 0,
  damaged: 0,
  samples: Array.from({ length: 9 }, () => sample),
};

Deno.test("failuresOf, nothing where everything is as promised", () => {
  assert.deepEqual(failuresOf(figures), []);
  assert.match(formatTable(figures), /^\| lost +\| 0 +\| 0 +\|$/m);
  assert.match(formatTable(figures), /^\| faults +\| 2 path-cut +\| +\|$/m);
});

Deno.test("failuresOf, each figure that breaks the promise, by its name", () => {
  const grown = (change: Partial<Sample>) => ({
    samples: figures.samples.map((sample, i) => i < 6 ? sample : { ...sample, ...change }),
  });
  const broken: [Partial<Figures>, RegExp][] = [
    [{ wrong: "s1 ended by itself" }, /^s1 ended by itself$/],
    [{ missing: { lost: 3, diedUnread: 0 } }, /^3 packets lost$/],
    [{ duplicates: 11 }, /^11 duplicates, at most 10$/],
    [{ outOfOrder: 1 }, /out of order/],
    [{ damaged: 1 }, /nobody had sent/],
    [{ leftOnDisk: undefined }, /^the end was not reached$/],
    [{ leftOnDisk: { packets: 4, deadPackets: 0 } }, /^4 packets left on disk$/],
    [{ leftOnDisk: { packets: 0, deadPackets: 5 } }, /^5 dead letters$/],
    [grown({ rssBytes: 160 * MIB }), /^sender's memory .* grows: 80\.0 MiB, then 160\.0 MiB$/],
    [grown({ descriptors: 40 }), /^sender's descriptors grows: 30, then 40$/],
    [grown({ walBytes: 40 * MIB }), /^queue's log .* grows/],
    [grown({ liveBytes: 12 * MIB }), /^sender's objects.* grows: 8\.0 MiB, then 12\.0 MiB$/],
    [grown({ enqueuerLiveBytes: 12 * MIB }), /^enqueuer's objects.* grows/],
    [grown({ enqueuerRssBytes: 160 * MIB }), /^enqueuer's memory .* grows/],
  ];
  for (const [change, words] of broken) {
    const failures = failuresOf({ ...figures, ...change });
    assert.equal(failures.length, 1, `${words}: ${failures}`);
    assert.match(failures[0] ?? "", words);
  }
});

Deno.test("failuresOf, what died unread behind the hold is counted, and breaks no promise", () => {
  const unread = { ...figures, missing: { lost: 0, diedUnread: 2 } };
  assert.deepEqual(failuresOf(unread), []);
  assert.match(formatTable(unread), /^\| died unread.*\| 2 +\|/m);
});

Deno.test("failuresOf, of an interrupted run only what was passed over is lost", () => {
  const interrupted = {
    ...figures,
    interrupted: true,
    leftOnDisk: undefined,
    missing: { lost: 30, diedUnread: 0 },
  };
  assert.deepEqual(failuresOf(interrupted), []);
  assert.match(formatTable(interrupted), /^\| not read yet .*\| 30 +\|/m);
  const skipped = { lost: 1, diedUnread: 0 };
  assert.deepEqual(failuresOf({ ...interrupted, skipped }), ["1 packets lost"]);
});

Deno.test("trendOf, compares the second third with the last, by their medians", () => {
  const tolerance = { factor: 1.1, more: 5 };
  const flat = trendOf([900, 900, 900, 10, 90, 10, 10, 10, 90], tolerance);
  assert.deepEqual([flat.second, flat.last, flat.grows], [10, 10, false]);
  assert.equal(trendOf([0, 0, 0, 10, 10, 10, 16, 16, 16], tolerance).grows, false);
  assert.equal(trendOf([0, 0, 0, 10, 10, 10, 17, 17, 17], tolerance).grows, true);
});

Deno.test("trendOf, too few samples are no trend, and a soak without a trend has failed", () => {
  for (const values of [[], [5], [1, 2, 3, 4, 5, 6, 7, 80]]) {
    const { second, last, grows } = trendOf(values, { factor: 1, more: 0 });
    assert.deepEqual([second, last, grows], [undefined, undefined, false], String(values));
  }
  const failures = failuresOf({ ...figures, samples: [] });
  assert.equal(failures.length, 6);
  assert.match(failures[0] ?? "", /too few samples/);
  assert.deepEqual(
    failuresOf({ ...figures, samples: [], interrupted: true, leftOnDisk: undefined }),
    [],
  );
});
