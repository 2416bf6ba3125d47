/**
 * What goes over the wire, and what the parts of the client hand each other. Types only.
 *
 * @typedef {object} User What a sign-in answers.
 * @property {number | string} id
 * @property {string} username
 * @property {string} email
 *
 * @typedef {object} Me
 * @property {number | string} id
 * @property {string} username
 * @property {string} email
 * @property {boolean} emailVerified
 * @property {boolean} isStaff
 * @property {string[]} groups
 * @property {string} dateJoined
 *
 * @typedef {object} Identity Who is signed in, as the access token says.
 * @property {string} id
 * @property {string} username
 * @property {boolean} isStaff
 * @property {boolean} isSuperuser
 * @property {string[]} groups
 *
 * @typedef {object} State
 * @property {"unknown" | "in" | "out"} status
 * @property {string} reason
 * @property {Identity | null} user
 *
 * @typedef {object} Account
 * @property {string} username
 * @property {string} password
 * @property {string} [email]
 * @property {boolean} [remember]
 * @property {string} [deviceName]
 *
 * @typedef {object} Detail
 * @property {string} detail
 *
 * @typedef {object} Link What a mailed link carries.
 * @property {string} uid
 * @property {string} token
 *
 * @typedef {object} Proof A passkey's answer, where the second factor is asked for.
 * @property {string} challenge
 * @property {object} credential
 *
 * @typedef {object} Session
 * @property {string} id
 * @property {boolean} current
 * @property {string} createdAt
 * @property {string} lastUsedAt
 * @property {string} expiresAt
 * @property {string | null} ipAddress
 * @property {string} userAgent
 * @property {string} device
 * @property {boolean} bound
 *
 * @typedef {object} Factor
 * @property {boolean} enabled
 * @property {string | null} enabledAt
 * @property {number} recoveryCodesLeft
 *
 * @typedef {object} Passkey
 * @property {string} id
 * @property {string} credentialId
 * @property {string} name
 * @property {string} createdAt
 * @property {string | null} lastUsedAt
 * @property {boolean} backedUp
 * @property {boolean} synced
 * @property {string[]} transports
 *
 * @typedef {object} Enrolment
 * @property {string} secret
 * @property {string} otpauthUri
 * @property {string} qrCode A picture, as a data: URL.
 *
 * @typedef {object} Claims
 * @property {string} sub
 * @property {string} sid
 * @property {number} iat
 * @property {number} exp
 * @property {string} username
 * @property {boolean} is_staff
 * @property {boolean} is_superuser
 * @property {string[]} groups
 * @property {{jkt: string}} [cnf]
 *
 * @typedef {object} Answer
 * @property {string} [accessToken]
 * @property {number} [expiresIn] Seconds.
 * @property {User} [user]
 */

/**
 * A page of a list.
 * @template T
 * @typedef {object} List
 * @property {T[]} results
 * @property {string | null} next
 * @property {string | null} previous
 */

/**
 * How the refresh token travels.
 * @typedef {object} Transport
 * @property {RequestCredentials} credentials Of the requests below /auth/.
 * @property {(path: string, body: any) => [string, any] | Promise<[string, any]>} sending What to ask instead.
 * @property {(answer: any) => Answer | Promise<Answer>} received Keep what came, and return the rest.
 * @property {() => void | Promise<void>} forget The session has ended.
 */

/**
 * What joins each request to the server and to `origins`.
 * @typedef {object} Hooks
 * @property {(request: Request, token?: string) => Record<string, string> | Promise<Record<string, string>>} [headers]
 *   Headers to add; Authorization too, in place of the usual one. `token` is the access token that goes along; without
 *   one, the request is a sign-in or a refresh.
 * @property {(response: Response, request: Request) => unknown} [answered]
 *   Sees each answer. If it returns (or resolves to) something true, the request is sent once more, with new headers.
 * @property {() => unknown} [ended] The session has ended, by this tab or by the server.
 */

/**
 * Keeps the key of the session. A browser's own keeps it in IndexedDB, for all tabs.
 * @typedef {object} Keys
 * @property {() => CryptoKeyPair | null | undefined | Promise<CryptoKeyPair | null | undefined>} get
 * @property {(pair: CryptoKeyPair) => unknown} set
 * @property {() => unknown} remove
 *
 * @typedef {object} Binding
 * @property {Keys} [keys] By default the browser's.
 * @property {string} [name] Tells apart clients of several servers in one page.
 */

/**
 * @typedef {object} Options By default the browser's; null for what to do without.
 * @property {string | URL} [base] The server, by default the page's origin. May have a path.
 * @property {(string | URL)[]} [origins] Others that may see the access token.
 * @property {boolean | Binding} [dpop] Whether to bind each sign-in to a key.
 * @property {Hooks} [hooks] In place of `dpop`.
 * @property {Transport} [transport] By default the cookie.
 * @property {(request: Request) => Promise<Response>} [fetch]
 * @property {Pick<LockManager, "request"> | null} [locks]
 * @property {BroadcastChannel | null} [channel]
 */

export {};
