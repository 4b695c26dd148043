"""Every address. Endpoints have no trailing slash here; middleware answers both."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from cases.views import bin as deleted
from cases.views import blobs, cases, projects, searches, series, tags
from casestore.accounts import views as accounts
from casestore.api.views import HealthView, RootView
from casestore.tasks import views as tasks
from exports import views as exports
from mylists import searches as list_searches
from mylists import views as mylists

api = [
    path("", RootView.as_view(), name="root"),
    path("health", HealthView.as_view(), name="health"),
    path("schema", SpectacularAPIView.as_view(), name="schema"),
    path("docs", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("cases", cases.CaseListView.as_view(), name="cases"),
    path("cases/search", searches.CaseSearchView.as_view(), name="case-search"),
    path("cases/list/<str:list_id>", list_searches.CaseListSearchView.as_view(), name="cases-of-list"),
    path("cases/export-mhd", exports.ExportMhdView.as_view(), name="export-mhd"),
    path("cases/export", exports.ExportView.as_view(), name="export"),
    path("cases/tags", tags.TagsView.as_view(), name="tags"),
    path("cases/deleted", deleted.DeletedCaseListView.as_view(), name="deleted-cases"),
    path("cases/<str:case_id>", cases.CaseView.as_view(), name="case"),
    path("cases/<str:case_id>/revision", cases.RevisionListView.as_view(), name="revision"),
    path("cases/<str:case_id>/tags", tags.CaseTagsView.as_view(), name="case-tags"),
    path("cases/<str:case_id>/restore", deleted.RestoreCaseView.as_view(), name="restore"),
    path("blob/<str:sha1>", blobs.BlobView.as_view(), name="blob"),
    path("series", series.SeriesListView.as_view(), name="series"),
    path("series/list/<str:list_id>", list_searches.SeriesListSearchView.as_view(), name="series-of-list"),
    path("series/domain/<str:domain>", series.SeriesUploadView.as_view(), name="series-upload"),
    path("series/<str:series_uid>", series.SeriesView.as_view(), name="one-series"),
    path("projects", projects.ProjectListView.as_view(), name="projects"),
    path("projects/<str:project_id>", projects.ProjectView.as_view(), name="project"),
    path("mylists", mylists.MyListsView.as_view(), name="mylists"),
    path("mylists/<str:list_id>", mylists.MyListView.as_view(), name="mylist"),
    path("mylists/<str:list_id>/items", mylists.MyListItemsView.as_view(), name="mylist-items"),
    path("tasks", tasks.TaskListView.as_view(), name="tasks"),
    path("tasks/report", tasks.TaskReportView.as_view(), name="task-report"),
    path("tasks/<str:task_id>", tasks.TaskView.as_view(), name="task"),
    path("tasks/<str:task_id>/download", tasks.TaskDownloadView.as_view(), name="task-download"),
    path("tokens", accounts.TokenListView.as_view(), name="tokens"),
    path("tokens/<str:token_id>", accounts.TokenView.as_view(), name="token"),
    path("login-info", accounts.LoginInfoView.as_view(), name="login-info"),
    path("login-info/full", projects.LoginInfoFullView.as_view(), name="login-info-full"),
    path("preferences", accounts.PreferencesView.as_view(), name="preferences"),
]

urlpatterns = [
    path("", RedirectView.as_view(url="/api/")),
    path("api", RedirectView.as_view(url="/api/")),
    path("api/", include(api)),
    path("api-auth/", include("rest_framework.urls")),
    path("admin/", admin.site.urls),
]

admin.site.site_header = admin.site.site_title = "casestore"
admin.site.index_title = "Administration"

handler400 = "casestore.api.errors.bad_request"
handler403 = "casestore.api.errors.permission_denied"
handler404 = "casestore.api.errors.not_found"
handler500 = "casestore.api.errors.server_error"
