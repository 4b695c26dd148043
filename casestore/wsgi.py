"""The WSGI entry point that gunicorn serves."""

import os
import signal
import threading

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "casestore.settings")
application = get_wsgi_application()

if threading.current_thread() is threading.main_thread():
    # Models may be imported only now. Signals are heard by the main thread alone.
    from casestore.tasks.reports import close_on

    close_on(signal.SIGTERM)
