/** Where the API is. Any other URL is as good: a server of your own has its own. */
export const CakeworkApiEnvironment = {
  Production: "https://api.cakework.com",
  Staging: "https://api-staging.cakework.com",
  Local: "http://localhost:8081",
} as const;

export type CakeworkApiEnvironment = (typeof CakeworkApiEnvironment)[keyof typeof CakeworkApiEnvironment];
