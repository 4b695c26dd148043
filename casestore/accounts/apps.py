from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "casestore.accounts"
    label = "accounts"
    verbose_name = "Accounts"
