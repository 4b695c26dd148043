"""Settings. Every address, limit and secret comes from the environment; the defaults suit `make run`."""

from __future__ import annotations

import tempfile

from casestore import environment
from casestore.embedded.places import ROOT, home
from casestore.search.description import SCHEMAS

BASE_DIR = ROOT
HOME = home()

DEBUG = False
SECRET_KEY = environment.secret_key(HOME)
ALLOWED_HOSTS = environment.words("CASESTORE_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = environment.words("CASESTORE_TRUSTED_ORIGINS", "")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "casestore.accounts",
    "casestore.tasks",
    "cases",
    "mylists",
    "exports",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "casestore.api.middleware.no_nul",
    "casestore.api.middleware.known_length",
    "casestore.api.middleware.no_length_of_304",
    "casestore.api.middleware.trailing_slash",
    "casestore.api.middleware.never_cache_api",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "casestore.urls"
WSGI_APPLICATION = "casestore.wsgi.application"
# The API answers with and without a trailing slash itself; a redirect would drop the body of a POST.
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "casestore" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {
    "default": {
        **environment.database(environment.text("DATABASE_URL", "postgresql:///casestore")),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["casestore.accounts.backends.EmailOrLoginIdBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
# bcrypt is how imported users' passwords are stored, each until the next login with it.
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "casestore.accounts.hashers.BcryptHasher",
]
LOGIN_URL = "/api-auth/login/"
LOGIN_REDIRECT_URL = "/api/"
LOGOUT_REDIRECT_URL = LOGIN_URL

# Cookies are marked secure behind TLS; `make run` serves plain HTTP on the loopback address.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = environment.flag("CASESTORE_HTTPS")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SESSION_COOKIE_SECURE else None
X_FRAME_OPTIONS = "DENY"

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "casestore" / "static"]
# Served from where the packages have them: nothing needs to be collected.
WHITENOISE_USE_FINDERS = True

STORAGES = {
    "default": environment.storage(environment.text("CASESTORE_STORAGE"), HOME),
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

# Bodies are JSON or one blob: read whole, so bounded. Files of a multipart body go to disk and have their own limit.
DATA_UPLOAD_MAX_MEMORY_SIZE = environment.number("CASESTORE_MAX_BODY", 20 * 2**20)
DATA_UPLOAD_MAX_NUMBER_FILES = environment.number("CASESTORE_MAX_UPLOAD_FILES", 10_000)
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.TemporaryFileUploadHandler"]
FILE_UPLOAD_TEMP_DIR = environment.text("CASESTORE_SPOOL", tempfile.gettempdir())
CASESTORE_MAX_BLOB = environment.number("CASESTORE_MAX_BLOB", 20 * 2**20)
CASESTORE_MAX_UPLOAD = environment.number("CASESTORE_MAX_UPLOAD", 16 * 2**30)

# Decoded volumes that are kept for exports take so many bytes; those that nobody used for longest go first.
CASESTORE_VOLUME_CACHE = environment.number("CASESTORE_VOLUME_CACHE", 200 * 2**30, minimum=0)

# Requests that each web process takes from one user in a minute; 0: any number.
CASESTORE_REQUESTS_PER_MINUTE = environment.number("CASESTORE_REQUESTS_PER_MINUTE", 0, minimum=0)

# No search takes longer; a client whose search would is told how to narrow it.
CASESTORE_SEARCH_SECONDS = environment.number("CASESTORE_SEARCH_SECONDS", 10, minimum=1)
# Lists in the envelope {"items", "totalItems", "page"} of the original server, for its clients.
CASESTORE_ENVELOPE = environment.flag("CASESTORE_ENVELOPE")

# Deleted cases can be restored for so many days; 0 keeps them for ever.
CASESTORE_BIN_DAYS = environment.number("CASESTORE_BIN_DAYS", 30, minimum=0)

# Label voxels that no label refers to are kept for so many days after they were last stored; 0 keeps them for ever.
CASESTORE_BLOB_DAYS = environment.number("CASESTORE_BLOB_DAYS", 30, minimum=0)

# So many exports of one user run at a time; the rest wait.
CASESTORE_EXPORTS_PER_USER = environment.number("CASESTORE_EXPORTS_PER_USER", 2)
# Results can be downloaded for so many days, and ended tasks are listed for so many; 0: for ever.
CASESTORE_EXPORT_DAYS = environment.number("CASESTORE_EXPORT_DAYS", 7, minimum=0)
CASESTORE_TASK_DAYS = environment.number("CASESTORE_TASK_DAYS", 30, minimum=0)

# The progress of tasks as server-sent events: so many streams are held in each web process, for so many seconds each.
# A stream holds a thread: there must be clearly fewer than threads. 0 holds none: clients come back every few seconds.
CASESTORE_REPORTS = environment.number("CASESTORE_REPORTS", 3, minimum=0)
CASESTORE_REPORT_SECONDS = environment.number("CASESTORE_REPORT_SECONDS", 55, minimum=0)
# Where nginx finds the storage folder as an internal location, it sends the files.
CASESTORE_ACCEL_REDIRECT = environment.text("CASESTORE_ACCEL_REDIRECT")

CELERY_BROKER_URL = environment.text("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A worker waits for the broker as long as it takes; what it is doing goes on meanwhile.
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
# Late acknowledgement: a message of a worker that died comes again. The rows of the tasks say what there is to do.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# Decoders and packers give their memory back when the process ends.
CELERY_WORKER_MAX_TASKS_PER_CHILD = environment.number("CASESTORE_TASKS_PER_CHILD", 100)
# One number bounds a task; the limits and the redelivery of its message follow from it.
CASESTORE_TASK_SECONDS = environment.number("CASESTORE_TASK_SECONDS", 6 * 3600, minimum=60)
CELERY_TASK_SOFT_TIME_LIMIT = CASESTORE_TASK_SECONDS
CELERY_TASK_TIME_LIMIT = CASESTORE_TASK_SECONDS + 60
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": CASESTORE_TASK_SECONDS + 120}
# A web request must not hang when the broker is away: the client is told at once.
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 2, "interval_start": 0, "interval_step": 0.2}

CELERY_BEAT_SCHEDULE_FILENAME = str(HOME / "beat")
# What a scheduler (`celery beat`, or a worker with --beat) asks for, hourly or daily. One that nobody did by the next
# time comes again.
CELERY_BEAT_SCHEDULE = {
    name: {"task": name, "schedule": seconds, "options": {"expires": seconds}}
    for name, seconds in (
        ("cases.purge_bin", 3600.0),
        ("cases.sweep_files", 3600.0),
        # Looks at every blob and its file: too many, in a large installation, to do it more often than it helps.
        ("cases.sweep_blobs", 86400.0),
        ("exports.forget_packed_cases", 3600.0),
        ("accounts.purge_answers", 3600.0),
        ("tasks.sweep", 3600.0),
    )
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "casestore.accounts.authentication.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_THROTTLE_CLASSES": ["casestore.api.throttling.PerUserThrottle"],
    # A view that forgot to say who may use it answers nobody.
    "DEFAULT_PERMISSION_CLASSES": ["casestore.api.permissions.DenyAll"],
    "DEFAULT_RENDERER_CLASSES": [
        "casestore.api.renderers.JSONRenderer",
        "casestore.api.renderers.BrowsableAPIRenderer",
    ],
    "DEFAULT_PARSER_CLASSES": ["casestore.api.parsers.JSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "casestore.api.negotiation.LenientNegotiation",
    "DEFAULT_SCHEMA_CLASS": "casestore.api.openapi.Schema",
    "EXCEPTION_HANDLER": "casestore.api.errors.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "URL_FORMAT_OVERRIDE": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "casestore",
    "DESCRIPTION": "Annotated medical-imaging cases: search, append-only revisions, labels, exports.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "StatusEnum": "casestore.tasks.models.Status",
        "ItemStatusEnum": ["packed", "failed"],
    },
    # Computed members, as patientInfo, are left out where there is nothing to show.
    "COMPONENT_NO_READ_ONLY_REQUIRED": True,
    # A PATCH here has a body of its own, with its own required members.
    "COMPONENT_SPLIT_PATCH": False,
    "APPEND_COMPONENTS": {"schemas": SCHEMAS},
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "()": "casestore.logs.PlainFormatter",
            "format": "{asctime} {levelname} {name}: {message}",
            "style": "{",
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": environment.text("CASESTORE_LOG_LEVEL", "INFO")},
    "loggers": {
        # Every 4xx of an API is a warning there; the access log has them already.
        "django.request": {"level": "ERROR"},
        "botocore": {"level": "WARNING"},
    },
}
