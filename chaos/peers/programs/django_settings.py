"""The settings of a Django project whose database is PostgreSQL."""

import os

SECRET_KEY = "of no use"
USE_TZ = True
TIME_ZONE = "UTC"
INSTALLED_APPS = ["django_celery_beat"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": os.environ["PEER_POSTGRES"],
        "USER": "onebeat",
        "NAME": "postgres",
        "OPTIONS": {"connect_timeout": 3, "tcp_user_timeout": 3000},
    }
}
