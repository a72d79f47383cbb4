/** What a front end does, in the browser of a test; see `test_typescript_client.py`. */

import {
  createMyoMetricsClient,
  retryAfter,
  tokensInMemory,
  type ApiError,
  type MyoMetricsClient,
  type Schema,
  type TokenStore,
} from "../src/client.js";

interface Credentials {
  email: string;
  password: string;
}

function insist<T>(value: T | undefined, error?: ApiError): T {
  if (value === undefined) throw new Error(error ? `${error.code}: ${error.detail}` : "nothing");
  return value;
}

async function signIn(client: MyoMetricsClient, store: TokenStore, body: Credentials) {
  const { data, error } = await client.POST("/api/auth/login/", { body });
  const answer = insist(data, error);
  if ("mfa_required" in answer) throw new Error("a second factor is asked for");
  store.set({ access: answer.access, refresh: answer.refresh });
  return answer.user;
}

/** Sign in, read and change the profile, be refused, read audit log and figures, sign out. */
export async function journey(origin: string, credentials: Credentials) {
  const store = tokensInMemory();
  const client = createMyoMetricsClient(origin, store);
  const user: Schema<"Profile"> = await signIn(client, store, credentials);
  const refused = await refusals(client);
  const renewed = await expiry(client, store);
  return { user, refused, renewed, ...(await work(client)), ended: await signOut(client, store) };
}

async function work(client: MyoMetricsClient) {
  const changed = await client.PATCH("/api/auth/user/", { body: { clinicName: "North" } });
  const written = await client.POST("/api/audit-logs/", {
    body: { action: "upload_created", resource_type: "upload", resource_id: "u1" },
  });
  const listed = await client.GET("/api/audit-logs/", {
    params: { query: { resource_type: "upload", page_size: 5 } },
  });
  const figures = await client.GET("/api/analytics/", { params: { query: { days: 7 } } });
  return {
    clinic: insist(changed.data, changed.error).clinicName,
    entry: insist(written.data, written.error).id,
    entries: insist(listed.data, listed.error).results.map((entry) => entry.id),
    uploads: insist(figures.data, figures.error).user_activity.daily_uploads.map(
      (day) => day.count,
    ),
  };
}

async function refusals(client: MyoMetricsClient) {
  const name = await client.PATCH("/api/auth/user/", { body: { firstName: "x".repeat(31) } });
  const page = await client.GET("/api/audit-logs/", { params: { query: { page: 999 } } });
  return {
    name: [name.response.status, Object.keys(name.error?.field_errors ?? {})],
    page: [page.response.status, page.error?.code],
  };
}

/** Tokens are replaced, once for all that ask at the same time, if the access token is not good. */
async function expiry(client: MyoMetricsClient, store: TokenStore) {
  const tokens = store.get();
  if (tokens === null) throw new Error("signed out");
  store.set({ ...tokens, access: "over" });
  const answers = await Promise.all([1, 2, 3].map(() => client.GET("/api/auth/user/")));
  const renewals = performance
    .getEntriesByType("resource")
    .filter(({ name }) => name.endsWith("/api/auth/token/refresh/")).length;
  return {
    statuses: answers.map(({ response }) => response.status),
    same: store.get()?.access === "over",
    replaced: store.get()?.refresh !== tokens.refresh,
    renewals,
  };
}

async function signOut(client: MyoMetricsClient, store: TokenStore) {
  const tokens = store.get();
  if (tokens === null) throw new Error("signed out");
  const ended = await client.POST("/api/auth/logout/", { body: { refresh: tokens.refresh } });
  const after = await client.GET("/api/auth/user/");
  const signedOut = store.get() === null;
  store.set(null);
  const anonymous = await client.GET("/api/auth/user/");
  return { status: ended.response.status, after: [after.error?.code, anonymous.error?.code], signedOut };
}

/** Guess passwords until the server throttles the client: code and seconds to wait. */
export async function tooMany(origin: string, credentials: Credentials) {
  const client = createMyoMetricsClient(origin, tokensInMemory());
  for (let attempt = 0; attempt < 10; attempt++) {
    const { error, response } = await client.POST("/api/auth/login/", { body: credentials });
    const seconds = retryAfter(response);
    if (seconds !== null) return { code: error?.code, seconds, attempt };
  }
  throw new Error("never throttled");
}

/** The browser's error if the origin of this page is not allowed. */
export async function uninvited(origin: string): Promise<string> {
  const client = createMyoMetricsClient(origin, tokensInMemory());
  return client.GET("/api/auth/user/").then(
    ({ response }) => `answered ${response.status}`,
    (error: unknown) => (error instanceof TypeError ? "kept away" : String(error)),
  );
}
