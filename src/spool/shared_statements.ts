import type { SqliteDatabase, SqliteStatement, SqliteValue } from "../queue/sqlite/driver.ts";

/**
 * A connection whose users share statements with the same text: each takes some kilobytes, and a
 * spool's queues have the same ones. Each is compiled when it is used first.
 */
export function withSharedStatements(database: SqliteDatabase): SqliteDatabase {
  const statements = new Map<string, SqliteStatement>();
  const statementOf = (sql: string): SqliteStatement => {
    let statement = statements.get(sql);
    if (statement === undefined) statements.set(sql, statement = database.prepare(sql));
    return statement;
  };
  return {
    prepare: (sql) => ({
      run: (params: readonly SqliteValue[]) => statementOf(sql).run(params),
      all: (params: readonly SqliteValue[]) => statementOf(sql).all(params),
    }),
    close: () => database.close(),
  };
}
